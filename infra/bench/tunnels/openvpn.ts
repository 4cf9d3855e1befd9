/** OpenVPN with `float`: the server follows the first authentic packet from another address, without a proof of that address. */
import { setTimeout as delay } from 'node:timers/promises';
import { createAuthority, type Leaf } from '../../lab/certificates.ts';
import type { Lab, LabProcess, Namespace } from '../../lab/lab.ts';
import type { PublicHost } from '../../lab/topology.ts';

const PORT = '1194';
/** Addresses inside the tunnel. */
export const OPENVPN_INNER = { device: '10.72.0.2', server: '10.72.0.1' } as const;
/** The device's interface. */
export const OPENVPN_INTERFACE = 'tun0';
const READY = 'Initialization Sequence Completed';
const READY_WITHIN_MS = 20_000;

/** A tunnel from `device` to `server`. */
export async function startOpenvpn(lab: Lab, server: PublicHost, device: Namespace): Promise<void> {
  // A program that is not there would end the lab.
  await lab.run(server.namespace, ['sh', '-c', 'command -v openvpn']);
  const authority = await createAuthority({ file: (name) => lab.file(`ovpn-${name}`) });
  const credentials = ({ certFile, keyFile }: Leaf) => [
    ...['--ca', authority.certFile, '--cert', certFile, '--key', keyFile],
    ...['--data-ciphers', 'AES-128-GCM', '--dev', OPENVPN_INTERFACE, '--proto', 'udp4', '--float'],
    ...['--txqueuelen', '1000', '--verb', '3'],
  ];
  const [serverLeaf, deviceLeaf] = await Promise.all([
    authority.issue('ovpn-server', [server.address]),
    authority.issue('ovpn-device', [server.address]),
  ]);
  const running = await lab.spawn(
    server.namespace,
    [
      ...['openvpn', '--local', server.address, '--port', PORT, '--topology', 'subnet', '--dh', 'none'],
      ...['--server', '10.72.0.0', '255.255.255.0', '--keepalive', '10', '60'],
      ...credentials(serverLeaf),
    ],
    { label: 'openvpn server' },
  );
  await untilReady(running);
  const client = await lab.spawn(
    device,
    ['openvpn', '--client', '--nobind', '--remote', server.address, PORT, ...credentials(deviceLeaf)],
    { label: 'openvpn client' },
  );
  await untilReady(client);
}

async function untilReady(process: LabProcess): Promise<void> {
  for (const deadline = Date.now() + READY_WITHIN_MS; !process.output().includes(READY); ) {
    if (!process.running || Date.now() > deadline) {
      throw new Error(`${process.label} did not get ready:\n${process.output().slice(-1_500)}`);
    }
    await delay(50);
  }
}
