import type { Lab } from '../../lab/lab.ts';
import type { PublicNetwork } from '../../lab/topology.ts';
import { startWireguard, WIREGUARD_INNER } from '../tunnels/wireguard.ts';
import { attachDevice, type Roamer, routePreference, trafficBetween } from './roamer.ts';

const SERVER = '198.51.100.60';

export async function wireguardRoamer(lab: Lab, net: PublicNetwork): Promise<Roamer> {
  const server = await net.host('wg-server', { address: SERVER });
  const { device, links } = await attachDevice(net, 'wg');
  const { renewEndpoint } = await startWireguard(lab, server, device.namespace);
  const byRoute = routePreference(lab, device, links);
  return {
    system: 'wireguard-go',
    links,
    traffic: await trafficBetween(lab, {
      device: { namespace: device.namespace, address: WIREGUARD_INNER.device },
      peer: { namespace: server.namespace, address: WIREGUARD_INNER.server },
    }),
    async prefer(link) {
      await byRoute(link);
      await renewEndpoint();
    },
    arrived: renewEndpoint,
    settled: async () => {},
  };
}
