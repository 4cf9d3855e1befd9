import { MooringError } from '../../../src/protocol/errors.ts';
import type { Device, Lease, Session } from '../../../src/protocol/lease.ts';
import type { RelayPlane } from '../../../src/protocol/relay-plane.ts';
import type { SignallingRegistry } from '../../../src/signalling/door.ts';

/**
 * A registry and an owner relay that do as a test says, for what only the door decides. Journeys of leases run
 * against the real registry instead.
 */
export interface Scripted {
  readonly registry: SignallingRegistry;
  readonly planeFor: () => Promise<RelayPlane>;
  /** Names of the calls made so far, in order. */
  readonly calls: string[];
  /** Leases that `deviceLeases` answers. */
  leases: Lease[];
  /** Awaited by every call of registry and relay. */
  gate: () => Promise<void>;
}

export const LEASE_ID = `anchor-1.${'L'.repeat(22)}`;

export function leaseOf(device: Device, id = LEASE_ID): Lease {
  return {
    id,
    anchor: 'anchor-1',
    pool: 'whole',
    device,
    bindId: 1,
    kind: 'rsa-ip',
    address: '203.0.113.7',
    ports: null,
    spis: null,
    session: 'ab'.repeat(16),
    state: 'active',
    remainingMs: 60_000,
    fence: '1-1',
  };
}

export function scripted(): Scripted {
  const self: Scripted = {
    calls: [],
    leases: [],
    gate: async () => {},
    registry: {
      grant: ({ device, thumbprint }) => called('grant', granted(device, thumbprint)),
      attach: ({ device, thumbprint }) => called('attach', granted(device, thumbprint)),
      extend: ({ device }) => called('extend', { type: 'extended', fence: '1-2', lease: leaseOf(device) }),
      free: ({ device }) =>
        called('free', { type: 'ended', fence: '1-2', lease: leaseOf(device), reason: 'freed' }),
      deviceLeases: () => called('deviceLeases', self.leases),
      register: () => called('register', { clientId: 1, remainingMs: 60_000 }),
      deregister: () => called('deregister', true),
      owner: () =>
        called('owner', { relay: 'relay-1', boot: '00'.repeat(8), epoch: 1n, remainingMs: 60_000 }),
    },
    planeFor: async () => plane,
  };
  const plane: RelayPlane = {
    install: ({ lease, session }) => called('install', { lease, tunnel: tunnelOf(session) }),
    apply: () => called('apply', {}),
    rebind: () => called('rebind', {}),
    prepare: () => called('prepare', {}),
    promise: () => called('promise', { promised: [] }),
    adopt: () => called('adopt', {}),
  };
  async function called<T>(name: string, answer: T): Promise<T> {
    self.calls.push(name);
    await self.gate();
    return answer;
  }
  return self;
}

function granted(device: Device, thumbprint: string) {
  const lease = leaseOf(device);
  return { lease, session: { id: lease.session, index: 1, device, thumbprint, salt: 'cd'.repeat(16) } };
}

function tunnelOf(session: Session) {
  return {
    endpoints: [{ address: '203.0.113.1', port: 4556 }],
    index: session.index,
    sessionId: session.id,
    epoch: '1',
    mtu: 1280,
    sealedRoot: 'sealed',
  };
}

export function unavailable(): MooringError {
  return new MooringError('ERR_MOORING_REGISTRY_UNAVAILABLE', 'registry: away; try again', {
    temporary: true,
    retryAfterMs: 500,
  });
}
