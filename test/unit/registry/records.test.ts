import { expect, test } from 'vitest';
import type { Lease, Session } from '../../../src/protocol/lease.ts';
import { eventFrom, leaseFrom, leaseText, sessionFrom, sessionText } from '../../../src/registry/records.ts';

const LEASE: Lease = {
  id: `a1.${'x'.repeat(22)}`,
  anchor: 'a1',
  pool: 'p',
  device: { tenant: 'acme', id: 'a|b@c:d' },
  bindId: 7,
  kind: 'rsipsec',
  address: '2001:db8::1',
  ports: { first: 2048, count: 64 },
  spis: { first: 4_294_967_040, count: 256 },
  ikeSpis: { first: 65_536, count: 65_536 },
  remote: { address: '2001:db8::2', port: null },
  session: 'ab'.repeat(16),
  state: 'active',
  remainingMs: 1_000,
  fence: '3-9007199254740993',
};
const SESSION: Session = {
  id: LEASE.session,
  index: 16_777_215,
  device: LEASE.device,
  thumbprint: 'k'.repeat(43),
  salt: '00'.repeat(16),
};

test.each<[string, Partial<Lease>]>([
  ['SPIs and one remote', {}],
  ['one port of a remote', { remote: { address: '2001:db8::2', port: 500 }, state: 'pending' }],
  ['ports', { kind: 'rsap-ip', spis: null, ikeSpis: null, remote: null }],
  ['a whole address', { kind: 'rsa-ip', ports: null, spis: null, ikeSpis: null, remote: null }],
])('a lease of %s is read as it was written', (_, part) => {
  const lease = { ...LEASE, ...part };
  expect(leaseFrom(leaseText(lease), 0)).toEqual(lease);
});

test('a session is read as it was written', () => {
  expect(sessionFrom(sessionText(SESSION))).toEqual(SESSION);
});

test('what is no record of ours is named, and what to look for', () => {
  for (const text of ['', 'granted', 'ended lost x y', '{"type":"granted"}', 'declared-2']) {
    expect(() => eventFrom('1-1', text, { anchor: 'a1', pool: 'p', nowMs: 0 })).toThrow(
      /where a record is due; find out what else writes to it/,
    );
  }
});
