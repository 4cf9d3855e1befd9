/**
 * What a tunnel does to the octet that holds DSCP (6 bits) and ECN (2 bits), at its two ends. The two are separate fields
 * and are never copied as one (RFC 2983, RFC 6040). Both engines mirror this arithmetic octet by octet.
 */

/**
 * At ingress `copy` gives the outer header the inner DSCP, `keep` leaves the inner one and gives the outer `value`,
 * `rewrite` gives both `value`. At egress `copy` gives the inner header the outer DSCP (uniform model), `keep` ignores
 * the outer one (pipe model), `rewrite` gives `value` (RFC 3102 §5.3.1, RFC 2983 §3.1).
 */
export type DscpMode = 'copy' | 'keep' | 'rewrite';

/** The numbers by which the modes are known in the fast path's configuration. */
export const DSCP_MODE = { copy: 0, keep: 1, rewrite: 2 } as const satisfies Record<DscpMode, number>;

/** One processing point's rule; `value` is a DSCP, 0–63. */
export interface DscpRule {
  readonly mode: DscpMode;
  readonly value: number;
}

/**
 * `normal` copies the inner ECN field to the outer header: only towards an egress that is known to obey the table of
 * RFC 6040 §4.2. `compatible` sends Not-ECT, whatever the egress does (§4.3).
 */
export type EcnMode = 'compatible' | 'normal';

export const ECN_MODE = { compatible: 0, normal: 1 } as const satisfies Record<EcnMode, number>;

/** A relay's two points: into the tunnel (downlink) and out of it (uplink). A device has the other two. */
export interface TunnelMarking {
  readonly ingress: DscpRule;
  readonly egress: DscpRule;
  /** Of the ingress; the egress always obeys the table. */
  readonly ecn: EcnMode;
}

/**
 * The default: the access network sees which class a packet has; nobody on it can change what the public side sees;
 * and no congestion mark is made that a device might not pass on.
 */
export const DEFAULT_MARKING: TunnelMarking = {
  ingress: { mode: 'copy', value: 0 },
  egress: { mode: 'keep', value: 0 },
  ecn: 'compatible',
};

const ECN = 0b11;

/** The inner octet as it enters the tunnel. ECN is never changed here (RFC 6040 §4.1). */
export function ingressInner({ ingress }: TunnelMarking, inner: number): number {
  return ingress.mode === 'rewrite' ? (ingress.value << 2) | (inner & ECN) : inner;
}

/** The outer octet for a packet whose inner octet was `inner`. */
export function ingressOuter({ ingress, ecn }: TunnelMarking, inner: number): number {
  const dscp = ingress.mode === 'copy' ? inner >> 2 : ingress.value;
  return (dscp << 2) | (ecn === 'normal' ? inner & ECN : 0);
}

/** What `egressInner` returns for a packet that must be dropped: congestion that its ends could not hear of. */
export const CONGESTION_UNHEARD = -1;

/** By inner ECN, then outer ECN: Not-ECT 0 · ECT(1) 1 · ECT(0) 2 · CE 3 (RFC 6040 §4.2, figure 4). */
const EGRESS_ECN: readonly (readonly number[])[] = [
  [0, 0, 0, CONGESTION_UNHEARD],
  [1, 1, 1, 3],
  [2, 1, 2, 3],
  [3, 3, 3, 3],
];

/** The inner octet as it leaves the tunnel, or {@link CONGESTION_UNHEARD}. */
export function egressInner({ egress }: TunnelMarking, inner: number, outer: number): number {
  const ecn = EGRESS_ECN[inner & ECN]![outer & ECN]!;
  if (ecn < 0) return CONGESTION_UNHEARD;
  const dscp = egress.mode === 'copy' ? outer >> 2 : egress.mode === 'keep' ? inner >> 2 : egress.value;
  return (dscp << 2) | ecn;
}

/** The octet of the IPv4 or IPv6 packet at `at`. */
export function trafficClass(buffer: Uint8Array, at: number): number {
  const first = buffer[at]!;
  const second = buffer[at + 1]!;
  return first >> 4 === 4 ? second : ((first & 0x0f) << 4) | (second >> 4);
}

/** Writes the octet; the IPv4 header checksum follows by difference (RFC 1624 eqn. 3), so a wrong one stays wrong. */
export function setTrafficClass(buffer: Uint8Array, at: number, octet: number): void {
  const first = buffer[at]!;
  const second = buffer[at + 1]!;
  if (first >> 4 !== 4) {
    buffer[at] = (first & 0xf0) | (octet >> 4);
    buffer[at + 1] = ((octet & 0x0f) << 4) | (second & 0x0f);
    return;
  }
  if (second === octet) return;
  // HC' = ~(~HC + ~m + m'), where the 16-bit word m holds version, IHL and this octet.
  const checksum = (buffer[at + 10]! << 8) | buffer[at + 11]!;
  let sum = (~checksum & 0xffff) + (~((first << 8) | second) & 0xffff) + ((first << 8) | octet);
  sum = (sum & 0xffff) + (sum >>> 16);
  sum = (sum & 0xffff) + (sum >>> 16);
  buffer[at + 1] = octet;
  buffer[at + 10] = (~sum & 0xffff) >> 8;
  buffer[at + 11] = ~sum & 0xff;
}
