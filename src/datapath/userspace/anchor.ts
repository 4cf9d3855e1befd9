import type { SocketAddress } from '../../protocol/address.ts';
import type { EngineAnchor } from '../engine-api.ts';
import type { FastAnchor, FastPath } from '../fast-path.ts';
import type { RelaySession } from './session.ts';

/** An anchor that this engine forwards for, or stands by for. */
export interface Anchor {
  readonly id: string;
  readonly endpoints: readonly string[];
  /** 0n: another relay owns it, and this one stands by. */
  epoch: bigint;
  /** A packet at or after this moment is not forwarded, in either direction. */
  untilMs: number;
  /** The deadline that counts when the anchor is not frozen. */
  grantedMs: number;
  /** Stood by for, exported, or not imported yet: a renewal on its way must not open an anchor that is another relay's. */
  frozen: boolean;
  readonly byIndex: Map<number, RelaySession>;
  readonly byId: Map<string, RelaySession>;
  /** Sessions that stood by and have not begun yet. */
  readonly waiting: Set<RelaySession>;
  /** The same anchor in the engine in front of this one; null without one. */
  readonly fast: FastAnchor | null;
}

/** Stood by for until `begin`. */
export function newAnchor(
  { id, endpoints }: Pick<EngineAnchor, 'id' | 'endpoints'>,
  fast: FastPath | null,
): Anchor {
  return {
    id,
    endpoints: [...endpoints],
    epoch: 0n,
    untilMs: Number.NEGATIVE_INFINITY,
    grantedMs: Number.NEGATIVE_INFINITY,
    frozen: true,
    byIndex: new Map(),
    byId: new Map(),
    waiting: new Set(),
    fast: fast?.anchor({ id, endpoints }) ?? null,
  };
}

/** From here on it is this relay's. */
export function begin(anchor: Anchor, { epoch, untilMs, resumes }: EngineAnchor): void {
  anchor.epoch = epoch;
  anchor.grantedMs = untilMs;
  anchor.frozen = resumes === true;
  anchor.untilMs = anchor.frozen ? Number.NEGATIVE_INFINITY : untilMs;
  anchor.fast?.begin(epoch, anchor.untilMs, anchor.frozen);
}

export function setDeadline(anchor: Anchor, untilMs: number): void {
  anchor.grantedMs = untilMs;
  if (!anchor.frozen) forwardUntil(anchor, untilMs);
}

/** Forwards nothing until `thaw`, whatever deadline is set meanwhile. */
export function freeze(anchor: Anchor): void {
  anchor.frozen = true;
  forwardUntil(anchor, Number.NEGATIVE_INFINITY);
}

export function thaw(anchor: Anchor): void {
  anchor.frozen = false;
  forwardUntil(anchor, anchor.grantedMs);
}

function forwardUntil(anchor: Anchor, untilMs: number): void {
  anchor.untilMs = untilMs;
  anchor.fast?.deadline(untilMs);
}

/** The endpoint that a datagram to `to` leaves from; null when the anchor has none of that family. */
export function endpointFor(anchor: Anchor, to: SocketAddress): string | null {
  const v6 = to.address.includes(':');
  return anchor.endpoints.find((endpoint) => endpoint.includes(':') === v6) ?? null;
}
