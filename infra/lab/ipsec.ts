/**
 * IPsec associations with manual keys between a device's kernel and a peer's: the `ip` commands for both ends, and
 * the kernels' own account of what each association carried. Tunnel mode, one inner address per end.
 */
import { randomBytes } from 'node:crypto';
import type { Uml } from './uml.ts';

export type IpsecProtocol = 'esp' | 'ah';

export interface IpsecEnd {
  /** Address of the tunnel's outer header: for a device, the leased one. */
  readonly outer: string;
  /** The one address behind this end. */
  readonly inner: string;
  /** SPI of packets *towards* this end; this end's kernel chose it. For a device, a leased one. */
  readonly spi: number;
}

export interface Association {
  readonly protocol: IpsecProtocol;
  /** Ties policies to states; unique at the peer, where several devices may share one outer address. */
  readonly reqid: number;
  readonly device: IpsecEnd;
  readonly peer: IpsecEnd;
}

export interface KeyedAssociation extends Association {
  /** Hexadecimal key material of the two directions. */
  readonly keys: { readonly toDevice: string; readonly toPeer: string };
}

/** AES-GCM (RFC 4106): 16 octets of key and 4 of salt; HMAC-SHA-256-128 (RFC 4868): 32. */
const KEY_OCTETS = { esp: 20, ah: 32 } as const;

/** Packets that Linux and strongSwan remember by default. */
export const REPLAY_WINDOW = 32;

/** Draws fresh keys: an association is made once and never again with the same ones. */
export function withFreshKeys(association: Association): KeyedAssociation {
  const key = () => randomBytes(KEY_OCTETS[association.protocol]).toString('hex');
  return { ...association, keys: { toDevice: key(), toPeer: key() } };
}

/** RFC 4302 aligns the ICV to 4 octets on IPv4; Linux does so only when told. */
function transform(protocol: IpsecProtocol, key: string): string {
  switch (protocol) {
    case 'esp':
      return `aead rfc4106(gcm(aes)) 0x${key} 128`;
    case 'ah':
      return `flag align4 auth-trunc hmac(sha256) 0x${key} 128`;
  }
}

/** Lines of an `ip -batch` for one end. `fwd` besides `in`, because the decapsulated packet is forwarded to the application behind. */
export function ipsecCommands(association: KeyedAssociation, side: 'device' | 'peer'): string[] {
  const { protocol, reqid, keys } = association;
  const here = association[side];
  const there = association[side === 'device' ? 'peer' : 'device'];
  const outKey = side === 'device' ? keys.toPeer : keys.toDevice;
  const inKey = side === 'device' ? keys.toDevice : keys.toPeer;
  const state = (from: IpsecEnd, to: IpsecEnd, key: string) =>
    `xfrm state add src ${from.outer} dst ${to.outer} proto ${protocol} spi 0x${to.spi.toString(16)} reqid ${reqid} ` +
    `mode tunnel replay-window ${REPLAY_WINDOW} ${transform(protocol, key)}`;
  const policy = (from: IpsecEnd, to: IpsecEnd, direction: 'out' | 'in' | 'fwd') =>
    `xfrm policy add src ${from.inner}/32 dst ${to.inner}/32 dir ${direction} ` +
    `tmpl src ${from.outer} dst ${to.outer} proto ${protocol} reqid ${reqid} mode tunnel`;
  return [
    state(here, there, outKey),
    state(there, here, inKey),
    policy(here, there, 'out'),
    policy(there, here, 'in'),
    policy(there, here, 'fwd'),
  ];
}

/** Sets the association up in both kernels. */
export async function establish(association: KeyedAssociation, device: Uml, peer: Uml): Promise<void> {
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

export async function securityAssociations(kernel: Uml): Promise<SecurityAssociation[]> {
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
