import ipaddr from 'ipaddr.js';
import type { SocketAddress } from '../../protocol/address.ts';

const NEVER = new Set(['unspecified', 'loopback', 'linkLocal', 'multicast', 'broadcast']);

/**
 * False for an address where no device behind another host can be: a challenge that a device asks for over
 * signalling is not to reach the relay itself, nor a group. Private addresses pass: a private network may
 * lie between device and relay, and a challenge does no harm there.
 */
export function isChallengeable(to: SocketAddress): boolean {
  return to.port !== 0 && !NEVER.has(ipaddr.parse(to.address).range());
}
