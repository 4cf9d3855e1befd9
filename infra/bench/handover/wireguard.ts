/** wireguard-go, the userspace implementation of Debian 12 (2022): not the kernel's WireGuard, and not its current code. */
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import type { Lab, Namespace } from '../../lab/lab.ts';
import type { PublicNetwork } from '../../lab/topology.ts';
import { attachDevice, type Roamer, routePreference, trafficBetween } from './roamer.ts';

const SERVER = '198.51.100.60';
const PORT = 51_820;
const INNER = { device: '10.71.0.2', server: '10.71.0.1' } as const;
/** What its manual recommends behind NAT. */
const KEEPALIVE_S = 25;
const MTU = 1_420;

export async function wireguardRoamer(lab: Lab, net: PublicNetwork): Promise<Roamer> {
  const server = await net.host('wg-server', { address: SERVER });
  const { device, links } = await attachDevice(net, 'wg');
  // Its control sockets share one directory on the machine: names must differ from those of a lab beside this one.
  const names = { device: `${lab.id}d`, server: `${lab.id}s` } as const;
  mkdirSync('/var/run/wireguard', { recursive: true });
  const keys = { device: await keyPair(lab, device.namespace), server: await keyPair(lab, server.namespace) };
  const start = async (namespace: Namespace, name: string, address: string, configuration: string[]) => {
    rmSync(`/var/run/wireguard/${name}.sock`, { force: true });
    const child = await lab.spawn(namespace, ['wireguard-go', '-f', name], {
      label: name,
      env: { LOG_LEVEL: 'error', WG_I_PREFER_BUGGY_USERSPACE_TO_POLISHED_KMOD: '1' },
    });
    for (let attempt = 0; ; attempt += 1) {
      try {
        await lab.run(namespace, ['wg', 'set', name, ...configuration]);
        break;
      } catch (error) {
        if (attempt === 50 || !child.running) throw error;
        await delay(100);
      }
    }
    await lab.ip(namespace, [
      `address add ${address}/24 dev ${name}`,
      `link set ${name} mtu ${MTU} txqueuelen 1000 up`,
    ]);
  };
  await start(server.namespace, names.server, INNER.server, [
    ...['private-key', keys.server.file, 'listen-port', String(PORT)],
    ...['peer', keys.device.public, 'allowed-ips', `${INNER.device}/32`],
  ]);
  const endpoint = ['peer', keys.server.public, 'endpoint', `${SERVER}:${PORT}`];
  await start(device.namespace, names.device, INNER.device, [
    ...['private-key', keys.device.file],
    ...[...endpoint, 'allowed-ips', `${INNER.server}/32`, 'persistent-keepalive', String(KEEPALIVE_S)],
  ]);
  const byRoute = routePreference(lab, device, links);
  // It caches the source address of a peer until the endpoint is set again.
  const renewEndpoint = async () => {
    await lab.run(device.namespace, ['wg', 'set', names.device, ...endpoint]);
  };
  return {
    system: 'wireguard-go',
    links,
    traffic: await trafficBetween(lab, {
      device: { namespace: device.namespace, address: INNER.device },
      peer: { namespace: server.namespace, address: INNER.server },
    }),
    async prefer(link) {
      await byRoute(link);
      await renewEndpoint();
    },
    arrived: renewEndpoint,
    settled: async () => {},
  };
}

async function keyPair(lab: Lab, namespace: Namespace): Promise<{ file: string; public: string }> {
  const secret = (await lab.run(namespace, ['wg', 'genkey'])).stdout.trim();
  const file = lab.file(`wg-${namespace}.key`);
  writeFileSync(file, `${secret}\n`, { mode: 0o600 });
  return { file, public: (await lab.run(namespace, ['wg', 'pubkey'], `${secret}\n`)).stdout.trim() };
}
