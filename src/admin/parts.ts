import type { OperatorPlane, RelayPlane } from '../protocol/relay-plane.ts';
import type { Registry } from '../registry/registry.ts';
import type { Log } from '../telemetry/log.ts';
import type { KnownAnchors } from './known-anchors.ts';

/** What the API asks of the registry. */
export type AdminRegistry = Pick<
  Registry,
  | 'anchor'
  | 'owner'
  | 'snapshot'
  | 'deviceLeases'
  | 'revoke'
  | 'relay'
  | 'relays'
  | 'pools'
  | 'pool'
  | 'anchorView'
  | 'declarePool'
  | 'retirePool'
  | 'retireAnchor'
  | 'changing'
>;

/** What the operations of the API work with. */
export interface AdminParts {
  readonly registry: AdminRegistry;
  readonly knownAnchors: KnownAnchors;
  /** Reaches a relay by its id. */
  readonly planeFor: (relay: string) => Promise<Pick<RelayPlane, 'apply'> & OperatorPlane>;
  readonly log: Log;
}
