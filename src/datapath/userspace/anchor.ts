import type { SocketAddress } from '../../protocol/address.ts';
import type { EngineAnchor } from '../engine-api.ts';
import type { FastAnchor, FastPath } from '../fast-path.ts';
import type { FollowedAnchor } from './followed-anchor.ts';
import type { RelaySession } from './session.ts';

/** An anchor that this engine forwards for. */
export interface Anchor {
  readonly id: string;
  readonly endpoints: readonly string[];
  readonly epoch: bigint;
  /** A packet at or after this moment is not forwarded, in either direction. */
  untilMs: number;
  /** The deadline that counts when the anchor is not frozen. */
  grantedMs: number;
  /** Exported, or not imported yet: a renewal on its way must not open an anchor that is another relay's. */
  frozen: boolean;
  readonly byIndex: Map<number, RelaySession>;
  readonly byId: Map<string, RelaySession>;
  /** What was followed before this engine took the anchor, and is not installed yet; null: everything is. */
  toInstall: FollowedAnchor | null;
  /** The same anchor in the engine in front of this one; null without one. */
  readonly fast: FastAnchor | null;
}

export function newAnchor(
  { id, endpoints, epoch, untilMs, resumes }: EngineAnchor,
  fast: FastPath | null,
): Anchor {
  const anchor: Anchor = {
    id,
    endpoints: [...endpoints],
    epoch,
    untilMs,
    grantedMs: untilMs,
    frozen: false,
    byIndex: new Map(),
    byId: new Map(),
    toInstall: null,
    fast: fast?.anchor({ id, endpoints, epoch, untilMs }) ?? null,
  };
  if (resumes === true) freeze(anchor);
  return anchor;
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
