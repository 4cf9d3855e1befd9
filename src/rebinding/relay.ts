import type { RelayRebinding, RelayRebindingOptions } from './relay-io.ts';

/** The relay's side of one session's rebinds. */
export function createRelayRebinding(_options: RelayRebindingOptions): RelayRebinding {
  throw new Error('not there yet');
}
