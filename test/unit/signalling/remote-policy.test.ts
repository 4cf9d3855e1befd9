import { describe, expect, it } from 'vitest';
import type { Remote } from '../../../src/protocol/lease.ts';
import { declaredRemote } from '../../../src/signalling/requests/lease.ts';

const pool = (remotePolicy?: 'none' | 'macro' | 'micro') => ({
  name: 'p',
  leaseMs: { default: 1_000, max: 1_000 },
  maxLeasesPerDevice: 1,
  ...(remotePolicy === undefined ? {} : { remotePolicy }),
});
const ADDRESS: Remote = { address: '198.51.100.9', port: null };
const PORT: Remote = { address: '2001:DB8:0::9', port: 53 };

describe('the remote that a lease is for', () => {
  it.each([
    ['none', undefined, null],
    ['none', ADDRESS, null],
    ['none', PORT, null],
    ['macro', ADDRESS, ADDRESS],
    ['macro', PORT, { address: '2001:db8::9', port: null }],
    ['micro', PORT, { address: '2001:db8::9', port: 53 }],
  ] as const)(
    'R28: under %s keeps as much of a wish as the policy asks for (%o → %o)',
    (policy, wish, remote) => {
      expect(declaredRemote(wish, pool(policy))).toEqual(remote);
    },
  );

  it.each([
    ['macro', undefined],
    ['micro', undefined],
    ['micro', ADDRESS],
  ] as const)('R28: under %s is not left open (%o): FLOW_POLICY_VIOLATION', (policy, wish) => {
    expect(() => declaredRemote(wish, pool(policy))).toThrow(expect.objectContaining({ rsip: 103 }));
  });

  it('R28: is an address, and open where the pool says nothing', () => {
    expect(() => declaredRemote({ address: 'peer', port: null }, pool('macro'))).toThrow(/remote.address/);
    expect(declaredRemote(ADDRESS, pool())).toBeNull();
  });
});
