import type { Lab } from '../../lab/lab.ts';
import type { PublicNetwork } from '../../lab/topology.ts';
import { OPENVPN_INNER, startOpenvpn } from '../tunnels/openvpn.ts';
import { attachDevice, type Roamer, routePreference, trafficBetween } from './roamer.ts';

const SERVER = '198.51.100.61';

export async function openvpnRoamer(lab: Lab, net: PublicNetwork): Promise<Roamer> {
  const server = await net.host('ovpn-server', { address: SERVER });
  const { device, links } = await attachDevice(net, 'ovpn');
  await startOpenvpn(lab, server, device.namespace);
  return {
    system: 'openvpn-float',
    links,
    traffic: await trafficBetween(lab, {
      device: { namespace: device.namespace, address: OPENVPN_INNER.device },
      peer: { namespace: server.namespace, address: OPENVPN_INNER.server },
    }),
    prefer: routePreference(lab, device, links),
    arrived: async () => {},
    settled: async () => {},
  };
}
