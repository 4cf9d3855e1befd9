import type { SocketAddress } from '../../protocol/address.ts';
import type { EngineAnchor } from '../engine-api.ts';
import type { RelaySession } from './session.ts';

/** An anchor that this engine forwards for. */
export interface Anchor {
  readonly id: string;
  readonly endpoints: readonly string[];
  readonly epoch: bigint;
  /** A packet at or after this moment is not forwarded, in either direction. */
  untilMs: number;
  readonly byIndex: Map<number, RelaySession>;
  readonly byId: Map<string, RelaySession>;
}

export function newAnchor({ id, endpoints, epoch, untilMs }: EngineAnchor): Anchor {
  return { id, endpoints: [...endpoints], epoch, untilMs, byIndex: new Map(), byId: new Map() };
}

/** The endpoint that a datagram to `to` leaves from; null when the anchor has none of that family. */
export function endpointFor(anchor: Anchor, to: SocketAddress): string | null {
  const v6 = to.address.includes(':');
  return anchor.endpoints.find((endpoint) => endpoint.includes(':') === v6) ?? null;
}
