import { createHash } from 'node:crypto';
import type { Device } from '../protocol/lease.ts';
import type { Random } from './connection.ts';

const LENGTH = 11;

/**
 * What stands for a device's request in the ids of leases that answer it: 66 bits of a hash. So every lease says, wherever it is
 * kept, whose retry it answers.
 */
export function markOf({ tenant, id }: Device, requestId: string): string {
  return createHash('sha256').update(`${tenant}/${id}\n${requestId}`).digest('base64url').slice(0, LENGTH);
}

/** 66 random bits: one try of a request on one anchor. */
export function newAttempt(random: Random): string {
  return random(9).toString('base64url').slice(0, LENGTH);
}

/** The attempt that a lease comes from: its id is `<anchor>.<mark><attempt>`. */
export function attemptOf(leaseId: string): string {
  return leaseId.slice(-LENGTH);
}
