/** OpenVPN with `float`: the server follows the first authentic packet from another address, without a proof of that address. */
import { setTimeout as delay } from 'node:timers/promises';
import { createAuthority, type Leaf } from '../../lab/certificates.ts';
import type { Lab, LabProcess } from '../../lab/lab.ts';
import type { PublicNetwork } from '../../lab/topology.ts';
import { attachDevice, type Roamer, routePreference, trafficBetween } from './roamer.ts';

const SERVER = '198.51.100.61';
const PORT = '1194';
const INNER = { device: '10.72.0.2', server: '10.72.0.1' } as const;
const READY = 'Initialization Sequence Completed';
const READY_WITHIN_MS = 20_000;

export async function openvpnRoamer(lab: Lab, net: PublicNetwork): Promise<Roamer> {
  const server = await net.host('ovpn-server', { address: SERVER });
  const { device, links } = await attachDevice(net, 'ovpn');
  const authority = await createAuthority({ file: (name) => lab.file(`ovpn-${name}`) });
  const credentials = ({ certFile, keyFile }: Leaf) => [
    ...['--ca', authority.certFile, '--cert', certFile, '--key', keyFile],
    ...['--data-ciphers', 'AES-128-GCM', '--dev', 'tun0', '--proto', 'udp4', '--float'],
    ...['--txqueuelen', '1000', '--verb', '3'],
  ];
  const [serverLeaf, deviceLeaf] = await Promise.all([
    authority.issue('ovpn-server', [SERVER]),
    authority.issue('ovpn-device', [SERVER]),
  ]);
  const running = await lab.spawn(
    server.namespace,
    [
      ...['openvpn', '--local', SERVER, '--port', PORT, '--topology', 'subnet', '--dh', 'none'],
      ...['--server', '10.72.0.0', '255.255.255.0', '--keepalive', '10', '60'],
      ...credentials(serverLeaf),
    ],
    { label: 'openvpn server' },
  );
  await untilReady(running);
  const client = await lab.spawn(
    device.namespace,
    ['openvpn', '--client', '--nobind', '--remote', SERVER, PORT, ...credentials(deviceLeaf)],
    { label: 'openvpn client' },
  );
  await untilReady(client);
  return {
    system: 'openvpn-float',
    links,
    traffic: await trafficBetween(lab, {
      device: { namespace: device.namespace, address: INNER.device },
      peer: { namespace: server.namespace, address: INNER.server },
    }),
    prefer: routePreference(lab, device, links),
    arrived: async () => {},
    settled: async () => {},
  };
}

async function untilReady(process: LabProcess): Promise<void> {
  for (const deadline = Date.now() + READY_WITHIN_MS; !process.output().includes(READY); ) {
    if (!process.running || Date.now() > deadline) {
      throw new Error(`${process.label} did not get ready:\n${process.output().slice(-1_500)}`);
    }
    await delay(50);
  }
}
