/**
 * IPsec associations with manual keys between a device's kernel and a peer's: the `ip` commands for both ends, and
 * the kernels' own account of what each association carried. One inner address per end, or one port.
 */
import { randomBytes } from 'node:crypto';
import type { UmlHost } from './uml-host.ts';

/** A kernel, or one host in it. */
type Kernel = Pick<UmlHost, 'exec'>;

export type IpsecProtocol = 'esp' | 'ah';

export interface IpsecEnd {
  /** Address of the tunnel's outer header: for a device, the leased one. */
  readonly outer: string;
  /** The one address behind this end; in transport mode the same as `outer`. */
  readonly inner: string;
  /** UDP port that the association is for; default: everything between the inner addresses. */
  readonly port?: number;
  /** SPI of packets *towards* this end; this end's kernel chose it. For a device, a leased one. */
  readonly spi: number;
}

export interface Association {
  readonly protocol: IpsecProtocol;
  /** Of ESP; default `aes-gcm`. */
  readonly cipher?: 'aes-gcm' | 'aes-cbc-hmac';
  /** Default `tunnel`. */
  readonly mode?: 'tunnel' | 'transport';
  /** ESP in UDP from and to port 4500 (RFC 3948); each end needs a socket there that says so. */
  readonly udp?: boolean;
  /** Ties policies to states; unique at the peer, where several devices may share one outer address. */
  readonly reqid: number;
  readonly device: IpsecEnd;
  readonly peer: IpsecEnd;
}

export interface KeyedAssociation extends Association {
  /** Hexadecimal key material of the two directions. */
  readonly keys: { readonly toDevice: string; readonly toPeer: string };
}

/** AES-GCM (RFC 4106): 16 octets of key and 4 of salt; HMAC-SHA-256-128 (RFC 4868): 32, behind AES-CBC's 16. */
const KEY_OCTETS = { 'aes-gcm': 20, 'aes-cbc-hmac': 48, ah: 32 } as const;

/** Packets that Linux and strongSwan remember by default. */
export const REPLAY_WINDOW = 32;

/** Draws fresh keys: an association is made once and never again with the same ones. */
export function withFreshKeys(association: Association): KeyedAssociation {
  const key = () => randomBytes(KEY_OCTETS[algorithm(association)]).toString('hex');
  return { ...association, keys: { toDevice: key(), toPeer: key() } };
}

function algorithm({ protocol, cipher = 'aes-gcm' }: Association): keyof typeof KEY_OCTETS {
  return protocol === 'ah' ? 'ah' : cipher;
}

/** RFC 4302 aligns the ICV to 4 octets on IPv4; Linux does so only when told. */
function transform(association: Association, key: string): string {
  switch (algorithm(association)) {
    case 'aes-gcm':
      return `aead rfc4106(gcm(aes)) 0x${key} 128`;
    case 'aes-cbc-hmac':
      return `enc cbc(aes) 0x${key.slice(0, 32)} auth-trunc hmac(sha256) 0x${key.slice(32)} 128`;
    case 'ah':
      return `${association.device.outer.includes(':') ? '' : 'flag align4 '}auth-trunc hmac(sha256) 0x${key} 128`;
  }
}

/** Lines of an `ip -batch` for one end. `fwd` besides `in`, because the decapsulated packet is forwarded to the application behind. */
export function ipsecCommands(association: KeyedAssociation, side: 'device' | 'peer'): string[] {
  const { protocol, reqid, keys, mode = 'tunnel', udp = false } = association;
  const here = association[side];
  const there = association[side === 'device' ? 'peer' : 'device'];
  const outKey = side === 'device' ? keys.toPeer : keys.toDevice;
  const inKey = side === 'device' ? keys.toDevice : keys.toPeer;
  const state = (from: IpsecEnd, to: IpsecEnd, key: string) =>
    `xfrm state add src ${from.outer} dst ${to.outer} proto ${protocol} spi 0x${to.spi.toString(16)} reqid ${reqid} ` +
    `mode ${mode} replay-window ${REPLAY_WINDOW} ${transform(association, key)}` +
    (udp ? ' encap espinudp 4500 4500 0.0.0.0' : '');
  const bits = here.inner.includes(':') ? 128 : 32;
  const ports = (from: IpsecEnd, to: IpsecEnd) =>
    from.port === undefined || to.port === undefined ? '' : `proto udp sport ${from.port} dport ${to.port} `;
  const policy = (from: IpsecEnd, to: IpsecEnd, direction: 'out' | 'in' | 'fwd') =>
    `xfrm policy add src ${from.inner}/${bits} dst ${to.inner}/${bits} ${ports(from, to)}dir ${direction} ` +
    `tmpl src ${from.outer} dst ${to.outer} proto ${protocol} reqid ${reqid} mode ${mode}`;
  return [
    state(here, there, outKey),
    state(there, here, inKey),
    policy(here, there, 'out'),
    policy(there, here, 'in'),
    policy(there, here, 'fwd'),
  ];
}

/** Sets the association up in both kernels. */
export async function establish(association: KeyedAssociation, device: Kernel, peer: Kernel): Promise<void> {
  // Starting a program inside a kernel costs some 50 ms: one batch instead of five commands.
  const batch = (side: 'device' | 'peer') =>
    `ip -batch - <<'END-OF-BATCH'\n${ipsecCommands(association, side).join('\n')}\nEND-OF-BATCH`;
  await Promise.all([device.exec(batch('device')), peer.exec(batch('peer'))]);
}

/** One security association as the kernel lists it. */
export interface SecurityAssociation {
  readonly source: string;
  readonly destination: string;
  readonly protocol: string;
  readonly spi: number;
  readonly reqid: number;
  readonly replayWindow: number;
  readonly packets: number;
  readonly octets: number;
  /** Packets refused: outside the replay window, seen before, integrity failed. */
  readonly refused: { readonly window: number; readonly replay: number; readonly integrity: number };
  /** When it was added, by the kernel's clock: another value means another association. */
  readonly added: string;
  /** Everything that may not change while it lives: addresses, SPI, mode, algorithm, key, time of birth. */
  readonly identity: string;
}

function number(pattern: RegExp, text: string): number {
  return Number(pattern.exec(text)?.[1] ?? Number.NaN);
}

/** Reads the output of `ip -s xfrm state`. */
export function parseSecurityAssociations(listing: string): SecurityAssociation[] {
  return listing
    .split(/^(?=src )/m)
    .filter((block) => block.startsWith('src '))
    .map((block) => {
      const ends = /^src (\S+) dst (\S+)/.exec(block);
      const protocol = /proto (\S+) spi (0x[0-9a-f]+)/.exec(block);
      const transformLine = /^\s+(aead|auth-trunc|auth|enc) .*$/m.exec(block)?.[0].trim() ?? '';
      const mode = /mode (\S+)/.exec(block)?.[1] ?? '';
      const added = /\badd (\d\S* \S+)/.exec(block)?.[1] ?? '';
      const source = ends?.[1] ?? '';
      const destination = ends?.[2] ?? '';
      const spi = Number(protocol?.[2]);
      return {
        source,
        destination,
        protocol: protocol?.[1] ?? '',
        spi,
        reqid: number(/reqid (\d+)/, block),
        replayWindow: number(/^\s+replay-window (\d+) seq/m, block),
        octets: number(/(\d+)\(bytes\), \d+\(packets\)/, block),
        packets: number(/\d+\(bytes\), (\d+)\(packets\)/, block),
        refused: {
          window: number(/replay-window (\d+) replay/, block),
          replay: number(/replay (\d+) failed/, block),
          integrity: number(/failed (\d+)/, block),
        },
        added,
        identity: [source, destination, protocol?.[1], spi, mode, transformLine, added].join(' '),
      };
    });
}

export async function securityAssociations(kernel: Kernel): Promise<SecurityAssociation[]> {
  return parseSecurityAssociations(await kernel.exec('ip -s xfrm state'));
}

/** How many associations appeared, disappeared or became others between two listings of the same kernel. */
export function associationChanges(
  before: readonly SecurityAssociation[],
  after: readonly SecurityAssociation[],
): number {
  const earlier = new Set(before.map(({ identity }) => identity));
  const later = new Set(after.map(({ identity }) => identity));
  return (
    [...earlier].filter((id) => !later.has(id)).length + [...later].filter((id) => !earlier.has(id)).length
  );
}
