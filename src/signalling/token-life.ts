import { MooringError } from '../protocol/errors.ts';
import type { Caller, Door } from './door.ts';

/**
 * Refuses what needs a living token, once it has expired and the grace is over. Rebinding and freeing never do: the
 * way to the token issuer may lead through the very tunnel that has to move.
 */
export function requireLivingToken(caller: Caller, door: Door): void {
  const overMs = door.wallMs() - caller.principal.expiresAtMs - door.limits.tokenGraceMs;
  if (overMs < 0) return;
  throw new MooringError(
    'ERR_MOORING_TOKEN_EXPIRED',
    `claim exp of this socket's access token passed ${Math.round((overMs + door.limits.tokenGraceMs) / 1000)} s ago; ` +
      'open a new socket with a new token',
    { rsip: 304, data: { claim: 'exp' } },
  );
}
