import type { Operation } from './operation.ts';
import { anchorOperations } from './operations/anchors.ts';
import { leaseOperations } from './operations/leases.ts';
import { poolOperations } from './operations/pools.ts';
import { relayOperations } from './operations/relays.ts';

/** Everything that the admin API can do. */
export const OPERATIONS: readonly Operation[] = [
  ...poolOperations,
  ...anchorOperations,
  ...leaseOperations,
  ...relayOperations,
];
