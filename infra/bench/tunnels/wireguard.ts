/** wireguard-go, the userspace implementation of Debian 12 (2022): not the kernel's WireGuard, and not its current code. */
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import type { Lab, Namespace } from '../../lab/lab.ts';
import type { PublicHost } from '../../lab/topology.ts';

const PORT = 51_820;
/** Addresses inside the tunnel. */
export const WIREGUARD_INNER = { device: '10.71.0.2', server: '10.71.0.1' } as const;
/** What its manual recommends behind NAT. */
const KEEPALIVE_S = 25;
const MTU = 1_420;

export interface WireguardTunnel {
  /** The device's interface. */
  readonly interface: string;
  /** It caches the source address of a peer until the endpoint is set again. */
  renewEndpoint(): Promise<void>;
}

/** A tunnel from `device` to `server`; `behind` are prefixes that the device reaches through the server. */
export async function startWireguard(
  lab: Lab,
  server: PublicHost,
  device: Namespace,
  behind: readonly string[] = [],
): Promise<WireguardTunnel> {
  // Its control sockets share one directory on the machine: names must differ from those of a lab beside this one.
  const names = { device: `${lab.id}d`, server: `${lab.id}s` } as const;
  mkdirSync('/var/run/wireguard', { recursive: true });
  const keys = { device: await keyPair(lab, device), server: await keyPair(lab, server.namespace) };
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
  await start(server.namespace, names.server, WIREGUARD_INNER.server, [
    ...['private-key', keys.server.file, 'listen-port', String(PORT)],
    ...['peer', keys.device.public, 'allowed-ips', `${WIREGUARD_INNER.device}/32`],
  ]);
  const endpoint = ['peer', keys.server.public, 'endpoint', `${server.address}:${PORT}`];
  const allowed = [`${WIREGUARD_INNER.server}/32`, ...behind].join(',');
  await start(device, names.device, WIREGUARD_INNER.device, [
    ...['private-key', keys.device.file],
    ...[...endpoint, 'allowed-ips', allowed, 'persistent-keepalive', String(KEEPALIVE_S)],
  ]);
  return {
    interface: names.device,
    async renewEndpoint() {
      await lab.run(device, ['wg', 'set', names.device, ...endpoint]);
    },
  };
}

async function keyPair(lab: Lab, namespace: Namespace): Promise<{ file: string; public: string }> {
  const secret = (await lab.run(namespace, ['wg', 'genkey'])).stdout.trim();
  const file = lab.file(`wg-${namespace}.key`);
  writeFileSync(file, `${secret}\n`, { mode: 0o600 });
  return { file, public: (await lab.run(namespace, ['wg', 'pubkey'], `${secret}\n`)).stdout.trim() };
}
