/**
 * strongSwan's IKE daemon, unmodified, on a host of a user-mode-linux kernel: configured by files as an administrator
 * would write them, commanded by swanctl. Several daemons of one kernel do not see each other.
 */
import { writeFileSync } from 'node:fs';
import type { Lab } from './lab.ts';
import type { UmlHost } from './uml-host.ts';

const CHARON = '/usr/lib/ipsec/charon';
/** Enough for IKEv2 with a shared secret; the kernel does ESP's own ciphers. */
const PLUGINS = 'random nonce aes sha1 sha2 hmac gmp kdf kernel-netlink socket-default vici';

export interface CharonOptions {
  /** Lines for the `charon` section of strongswan.conf, such as `spi_min = 0x1000`. */
  readonly settings?: readonly string[];
  /** A file that strongswan.conf includes, such as the one that the agent writes for a lease. */
  readonly include?: string;
  /** The text of swanctl.conf. */
  readonly connections: string;
}

export interface IkeAssociation {
  /** Name of the connection. */
  readonly name: string;
  readonly state: string;
  readonly initiatorSpi: string;
  readonly responderSpi: string;
  /** UDP ports here and there. */
  readonly localPort: number;
  readonly remotePort: number;
  readonly children: readonly ChildAssociation[];
}

export interface ChildAssociation {
  readonly name: string;
  readonly state: string;
  /** ESP in UDP. */
  readonly udp: boolean;
  /** SPIs of packets to this host and from it. */
  readonly spiIn: number;
  readonly spiOut: number;
}

export interface Charon {
  /** @throws Error with swanctl's own words unless it succeeds within `timeoutMs` (30 s) */
  swanctl(args: string, timeoutMs?: number): Promise<string>;
  associations(): Promise<IkeAssociation[]>;
  /** The end of its log. */
  log(lines?: number): Promise<string>;
}

/** Resolves when the daemon takes commands and has its connections loaded. */
export async function startCharon(lab: Lab, host: UmlHost, options: CharonOptions): Promise<Charon> {
  const { name } = host;
  const file = (suffix: string) => lab.file(`${name}.${suffix}`);
  const socket = `unix:///var/tmp/${name}.vici`;
  const log = `/var/tmp/${name}.charon`;
  writeFileSync(file('strongswan.conf'), strongswanConf(socket, log, options));
  writeFileSync(file('swanctl.conf'), options.connections, { mode: 0o600 });
  const environment = `STRONGSWAN_CONF=${file('strongswan.conf')}`;
  // One daemon for each /run: it refuses to start beside the pid file of another.
  await host.exec(
    `setsid unshare -m sh -c 'mount -t tmpfs tmpfs /run && exec env ${environment} ${CHARON}' </dev/null >${log}.out 2>&1 &
     for i in $(seq 100); do [ -S /var/tmp/${name}.vici ] && exit 0; sleep 0.1; done; cat ${log}.out; exit 1`,
    20_000,
  );
  const swanctl = (args: string, timeoutMs = 30_000) =>
    host.exec(`${environment} swanctl ${args} --uri ${socket} 2>&1`, timeoutMs);
  await swanctl(`--load-all --noprompt --file ${file('swanctl.conf')}`);
  return {
    swanctl,
    associations: async () => parseAssociations(await swanctl('--list-sas')),
    log: (lines = 30) => host.exec(`tail -n ${lines} ${log}`),
  };
}

function strongswanConf(socket: string, log: string, { settings = [], include }: CharonOptions): string {
  return `${include === undefined ? '' : `include ${include}\n`}charon {
  load_modular = no
  load = ${PLUGINS}
  # Routes are there already; the policies alone say what is protected.
  install_routes = no
  ${settings.join('\n  ')}
  plugins {
    vici {
      socket = ${socket}
    }
  }
  filelog {
    file {
      path = ${log}
      default = 1
      flush_line = yes
    }
  }
}
# Left to itself it loads every plugin there is, each time.
swanctl {
  load = random
}
`;
}

/** Reads the output of `swanctl --list-sas`. */
export function parseAssociations(listing: string): IkeAssociation[] {
  return listing
    .split(/^(?=\S+: #\d+, )/m)
    .filter((block) => /^\S+: #\d+, /.test(block))
    .map((block) => {
      const head = /^(\S+): #\d+, (\w+), IKEv\d, ([0-9a-f]{16})_i\*? ([0-9a-f]{16})_r/.exec(block);
      const port = (side: string) => Number(new RegExp(`^  ${side} .*\\[(\\d+)\\]`, 'm').exec(block)?.[1]);
      return {
        name: head?.[1] ?? '',
        state: head?.[2] ?? '',
        initiatorSpi: head?.[3] ?? '',
        responderSpi: head?.[4] ?? '',
        localPort: port('local'),
        remotePort: port('remote'),
        children: block
          .split(/^(?= {2}\S+: #\d+, reqid )/m)
          .slice(1)
          .map((child) => {
            const what = /^ {2}(\S+): #\d+, reqid \d+, (\w+), (\S+),/.exec(child);
            const spi = (direction: string) =>
              Number.parseInt(
                new RegExp(`^    ${direction} +([0-9a-f]{8}),?`, 'm').exec(child)?.[1] ?? '',
                16,
              );
            return {
              name: what?.[1] ?? '',
              state: what?.[2] ?? '',
              udp: what?.[3]?.endsWith('-in-UDP') ?? false,
              spiIn: spi('in'),
              spiOut: spi('out'),
            };
          }),
      };
    });
}
