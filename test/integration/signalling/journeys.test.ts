import { mkdtempSync, rmSync } from 'node:fs';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { MooringError } from '../../../src/protocol/errors.ts';
import type { Lease } from '../../../src/protocol/lease.ts';
import type {
  ApplyParams,
  InstallParams,
  RebindParams,
  RelayPlane,
} from '../../../src/protocol/relay-plane.ts';
import type { Grant } from '../../../src/protocol/signalling.ts';
import { openRegistry } from '../../../src/registry/open.ts';
import type { Registry } from '../../../src/registry/registry.ts';
import { createIdentity } from '../auth/device-identity.ts';
import {
  type Authority,
  openDoor,
  SEALING_KEY,
  type ServerFrame,
  SILENT,
  startAuthority,
  type TestDoor,
  type TestSocket,
} from './test-door.ts';

const BOOT = '0123456789abcdef';
/** What no token here says. */
const CLOSED = { claim: 'plan', values: ['gold'] };

let authority: Authority;
let directory: string;
let registry: Registry;
let door: TestDoor;
let relay: OwnerRelay;
let anchors = 0;
let anchor: string;

beforeAll(async () => {
  authority = await startAuthority(2);
  directory = mkdtempSync('/tmp/mooring-journeys-');
  registry = await openRegistry({ dataDir: directory, log: SILENT });
});
afterAll(async () => {
  await registry.close();
  await authority.close();
  rmSync(directory, { recursive: true, force: true });
});

beforeEach(async () => {
  anchors += 1;
  anchor = `anchor-${anchors}`;
  await registry.declareAnchor({
    id: anchor,
    pool: `pool-${anchors}`,
    sharing: 'shared',
    prefixes: [`198.51.100.${anchors}/32`],
    endpoints: [`203.0.113.${anchors}`],
    home: 'relay-1',
    maxPortBlock: 256,
  });
  const { epoch } = await registry.claim(anchor, 'relay-1', BOOT, 60_000);
  relay = ownerRelay(epoch);
  door = await openDoor({
    registry,
    planeFor: async () => relay.plane,
    verifier: authority.verifier,
    pools: [{ name: `pool-${anchors}`, leaseMs: { default: 60_000, max: 120_000 }, maxLeasesPerDevice: 2 }],
    limits: { ownerTimeoutMs: 500 },
  });
});
afterEach(() => door.close());

/** An owner relay without packets: it does to the registry what a relay does, and remembers what it was asked. */
interface OwnerRelay {
  readonly plane: RelayPlane;
  readonly installs: InstallParams[];
  readonly applied: ApplyParams[];
  readonly rebinds: RebindParams[];
  /** Awaited by every call: lets a test take the relay away. */
  reach: () => Promise<void>;
}

function ownerRelay(epoch: bigint): OwnerRelay {
  const self: OwnerRelay = {
    installs: [],
    applied: [],
    rebinds: [],
    reach: async () => {},
    plane: {
      async install(params) {
        await self.reach();
        self.installs.push(params);
        const { id, state } = params.lease;
        const lease = state === 'active' ? params.lease : await registry.activate(anchor, id, epoch);
        const tunnel = {
          endpoints: [{ address: `203.0.113.${anchors}`, port: 4556 }],
          index: params.session.index,
          sessionId: params.session.id,
          epoch: String(epoch),
          mtu: 1280,
          sealedRoot: 'sealed-by-the-relay',
        };
        return { lease, tunnel };
      },
      async apply(params) {
        await self.reach();
        self.applied.push(params);
        return {};
      },
      async rebind(params) {
        await self.reach();
        self.rebinds.push(params);
        return {};
      },
      prepare: async () => ({}),
      promise: async () => ({ promised: [] }),
      adopt: async () => ({}),
    },
  };
  return self;
}

async function greeted(which = 0): Promise<TestSocket> {
  const socket = await door.connect();
  await socket.hello(authority.devices[which]!, authority);
  return socket;
}

const wish = (request: string) => ({
  type: 'lease',
  request: `${request}${anchors}`.padStart(32, '0'),
  pool: `pool-${anchors}`,
  kind: 'rsipsec',
});

function grantIn(frame: ServerFrame): Grant {
  if (frame.type !== 'result') expect.fail(JSON.stringify(frame));
  return frame.result as Grant;
}

function errorIn(frame: ServerFrame) {
  if (frame.type !== 'error') expect.fail(JSON.stringify(frame));
  return frame.error;
}

describe('a lease', () => {
  it('is acknowledged after its owner installed it, active, with its tunnel', async () => {
    const socket = await greeted();
    const { lease, tunnel } = grantIn(await socket.ask({ ...wish('a'), id: 2 }));
    expect(lease).toMatchObject({
      anchor,
      kind: 'rsipsec',
      state: 'active',
      device: { tenant: 'acme', id: 'laptop-1' },
      address: `198.51.100.${anchors}`,
    });
    expect(lease.remainingMs).toBeGreaterThan(50_000);
    expect(tunnel).toMatchObject({ sessionId: lease.session, sealedRoot: 'sealed-by-the-relay' });
    expect(relay.installs).toHaveLength(1);
    const [{ session, sealing }] = relay.installs as [InstallParams];
    expect(session.thumbprint).toBe(authority.devices[0]!.thumbprint);
    expect(sealing?.key).toEqual(SEALING_KEY);
    expect(sealing?.proof.split('.')).toHaveLength(3);
  });

  it('is not acknowledged before its owner installed it', async () => {
    let arrive = () => {};
    relay.reach = () =>
      new Promise<void>((resolve) => {
        arrive = resolve;
      });
    const socket = await greeted();
    socket.send({ ...wish('a'), id: 2 });
    await expect.poll(async () => (await registry.snapshot(anchor)).leases.length).toBe(1);
    expect(socket.frames.some((frame) => 'id' in frame && frame.id === 2)).toBe(false);
    expect((await registry.snapshot(anchor)).leases[0]).toMatchObject({ state: 'pending' });
    arrive();
    expect(grantIn(await socket.ask({ type: 'ping', id: 3 }))).toEqual({});
    await expect.poll(() => socket.frames.some((frame) => 'id' in frame && frame.id === 2)).toBe(true);
  });

  it('R28: of a pool that leases for one remote names it, or is refused with what is missing', async () => {
    await door.close();
    const policy = { leaseMs: { default: 60_000, max: 120_000 }, maxLeasesPerDevice: 2 };
    door = await openDoor({
      registry,
      planeFor: async () => relay.plane,
      verifier: authority.verifier,
      pools: [{ name: `pool-${anchors}`, ...policy, remotePolicy: 'macro' }],
    });
    const socket = await greeted();
    expect(errorIn(await socket.ask({ ...wish('a'), id: 2 }))).toMatchObject({ rsip: 103, temporary: false });
    const remote = { address: '203.0.113.99', port: 53 };
    const { lease } = grantIn(await socket.ask({ ...wish('b'), id: 3, remote }));
    expect(lease.remote).toEqual({ address: '203.0.113.99', port: null });
    expect(relay.installs.at(-1)?.lease.remote).toEqual(lease.remote);
  });

  it('asked for twice with one request id is one lease, with the first answer', async () => {
    const socket = await greeted();
    const first = grantIn(await socket.ask({ ...wish('a'), id: 2 }));
    const again = grantIn(await socket.ask({ ...wish('a'), id: 3 }));
    expect(again.lease.id).toBe(first.lease.id);
    expect((await registry.snapshot(anchor)).leases).toHaveLength(1);
  });

  it('whose owner is away is a temporary error, and the same request id gets it once the owner is back', async () => {
    const socket = await greeted();
    relay.reach = () => Promise.reject(new Error('connection refused'));
    const error = errorIn(await socket.ask({ ...wish('a'), id: 2 }));
    expect(error).toMatchObject({ code: 'ERR_MOORING_OWNER_UNREACHABLE', temporary: true });
    expect(error.retryAfterMs).toBeGreaterThan(0);
    const [pending] = (await registry.snapshot(anchor)).leases;
    expect(pending?.state).toBe('pending');
    relay.reach = async () => {};
    expect(grantIn(await socket.ask({ ...wish('a'), id: 3 })).lease.id).toBe(pending?.id);
  });

  it('whose owner hangs is a temporary error too, in bounded time', async () => {
    relay.reach = () => new Promise(() => {});
    const socket = await greeted();
    const startedMs = performance.now();
    expect(errorIn(await socket.ask({ ...wish('a'), id: 2 })).temporary).toBe(true);
    expect(performance.now() - startedMs).toBeLessThan(2_000);
  });

  it('asked for while its anchor changes hands is granted by the new owner, and nobody notices', async () => {
    let refusals = 2;
    relay.reach = async () => {
      refusals -= 1;
      if (refusals >= 0) throw new MooringError('ERR_MOORING_NOT_OWNER', 'not here', { temporary: true });
    };
    const socket = await greeted();
    expect(grantIn(await socket.ask({ ...wish('a'), id: 2 })).lease.state).toBe('active');
  });

  it('beyond the device’s quota is refused by the registry, for good', async () => {
    const socket = await greeted();
    await socket.ask({ ...wish('a'), id: 2 });
    await socket.ask({ ...wish('b'), id: 3 });
    expect(errorIn(await socket.ask({ ...wish('c'), id: 4 })).temporary).toBe(false);
    expect((await registry.snapshot(anchor)).leases).toHaveLength(2);
  });

  it('beyond what its tenant may hold in the pool is refused, and the device is told what would help', async () => {
    const shape = { id: anchor, pool: `pool-${anchors}`, sharing: 'shared' as const, home: 'relay-1' };
    const where = { prefixes: [`198.51.100.${anchors}/32`], endpoints: [`203.0.113.${anchors}`] };
    await registry.declareAnchor({ ...shape, ...where, maxPortBlock: 256, maxLeasesPerTenant: 1 });
    const socket = await greeted();
    grantIn(await socket.ask({ ...wish('a'), id: 2 }));
    expect(errorIn(await socket.ask({ ...wish('b'), id: 3 }))).toMatchObject({
      ...{ code: 'ERR_MOORING_TENANT_QUOTA', rsip: 304, name: 'REGISTRATION_DENIED', temporary: false },
      message: `pool pool-${anchors}: tenant acme holds as many leases of the pool as it may (1); free one, or have the operator raise maxLeasesPerTenant`,
    });
    // Said again it is the lease that it was.
    expect(grantIn(await socket.ask({ ...wish('a'), id: 4 })).lease.state).toBe('active');
  });

  it('wished for longer than the pool allows is shortened', async () => {
    const socket = await greeted();
    const { lease } = grantIn(await socket.ask({ ...wish('a'), leaseMs: 86_400_000, id: 2 }));
    expect(lease.remainingMs).toBeLessThanOrEqual(120_000);
  });
});

describe('what there is to lease', () => {
  const shape = { leaseMs: { default: 60_000, max: 120_000 }, maxLeasesPerDevice: 2 };
  it('is told with what a lease of it is, but for pools that the token does not open', async () => {
    door.signalling.usePools([
      { name: 'whole', sharing: 'whole', ...shape, realm: 'private' },
      { name: 'shared', sharing: 'shared', portBlock: 64, spiBlock: 16, ...shape, remotePolicy: 'micro' },
      { name: 'ports', sharing: 'shared', portBlock: 64, spiBlock: 16, ...shape, mayUseIpsec: [CLOSED] },
      { name: 'closed', sharing: 'whole', ...shape, mayLease: [CLOSED] },
      { name: 'retiring', sharing: 'whole', ...shape, retire: true },
    ] as never);
    const socket = await greeted();
    const { result } = (await socket.ask({ type: 'pools', id: 2 })) as unknown as { result: object };
    const times = { leaseMs: shape.leaseMs, maxLeases: 2 };
    const open = { realm: 'public', remotePolicy: 'none', ...times };
    expect(result).toEqual({
      pools: [
        { ...open, name: 'whole', realm: 'private', kinds: ['rsa-ip'], ports: null, spis: null },
        {
          ...open,
          name: 'shared',
          remotePolicy: 'micro',
          kinds: ['rsap-ip', 'rsipsec'],
          ports: 64,
          spis: 16,
        },
        { ...open, name: 'ports', kinds: ['rsap-ip'], ports: 64, spis: null },
      ],
    });
    const refused = (pool: string, id: number) => socket.ask({ ...wish('a'), pool, kind: 'rsa-ip', id });
    expect(errorIn(await refused('closed', 3))).toMatchObject({ rsip: 312, name: 'LOCAL_ADDR_UNALLOWED' });
    expect(errorIn(await refused('retiring', 4))).toMatchObject({
      code: 'ERR_MOORING_POOL_RETIRING',
      rsip: 312,
    });
  });

  it('may be asked for by name, and what is refused is refused by its number', async () => {
    const socket = await greeted();
    const { lease } = grantIn(await socket.ask({ ...wish('a'), id: 2 }));
    const neighbour = await greeted(1);
    const asked = async (local: object, id: number) =>
      errorIn(await neighbour.ask({ ...wish(String(id)), local, id })).name;
    const { address, ports, spis } = lease;
    expect(await asked({ address, port: ports!.first + 1 }, 3)).toBe('LOCAL_ADDRPORT_INUSE');
    expect(await asked({ spi: spis!.first + 1 }, 4)).toBe('IPSEC_SPI_INUSE');
    expect(await asked({ port: 80 }, 5)).toBe('LOCAL_ADDRPORT_UNALLOWED');
    expect(await asked({ address: '192.0.2.99' }, 6)).toBe('LOCAL_ADDR_UNALLOWED');
  });
});

describe('a held lease', () => {
  let socket: TestSocket;
  let lease: Lease;

  beforeEach(async () => {
    socket = await greeted();
    ({ lease } = grantIn(await socket.ask({ ...wish('a'), id: 2 })));
  });

  it('is told at the next hello, and attach gives its tunnel again to the key it began with', async () => {
    const later = await door.connect();
    const hello = await later.hello(authority.devices[0]!, authority);
    expect(hello).toMatchObject({
      result: { leases: expect.arrayContaining([expect.objectContaining({ id: lease.id })]) },
    });
    const { tunnel } = grantIn(await later.ask({ type: 'attach', lease: lease.id, id: 2 }));
    expect(tunnel.sessionId).toBe(lease.session);
    expect(relay.applied).toEqual([]);
  });

  it('attached with another key of its device gets a new session, and the owner ends the old one first', async () => {
    const later = await door.connect();
    const rekeyed = await createIdentity('laptop-1');
    await later.hello(rekeyed, authority);
    const attached = grantIn(await later.ask({ type: 'attach', lease: lease.id, id: 2 }));
    expect(attached.lease.id).toBe(lease.id);
    expect(attached.tunnel.sessionId).not.toBe(lease.session);
    expect(relay.applied).toMatchObject([
      { event: { type: 'session', replaces: lease.session, session: { thumbprint: rekeyed.thumbprint } } },
    ]);
    expect(relay.installs.at(-1)?.session.thumbprint).toBe(rekeyed.thumbprint);
  });

  it('R20: is extended in the registry and at its owner, counted from the request', async () => {
    const answer = await socket.ask({ type: 'extend', lease: lease.id, leaseMs: 100_000, id: 3 });
    const extended = grantIn(answer).lease;
    expect(extended.remainingMs).toBeGreaterThan(90_000);
    expect(extended.remainingMs).toBeLessThanOrEqual(100_000);
    expect(relay.applied).toMatchObject([{ anchor, event: { type: 'extended', lease: { id: lease.id } } }]);
  });

  it('has more ports in one block when it asks for them, once its owner knows, or keeps what it had', async () => {
    let arrive = () => {};
    const arrived = new Promise<void>((resolve) => {
      arrive = resolve;
    });
    relay.reach = () => arrived;
    socket.send({ type: 'extend', lease: lease.id, ports: 100, id: 3 });
    await expect.poll(async () => (await registry.snapshot(anchor)).leases[0]?.ports?.count).toBe(128);
    expect(socket.frames.some((frame) => 'id' in frame && frame.id === 3)).toBe(false);
    arrive();
    await expect.poll(() => socket.frames.at(-1)).toMatchObject({ type: 'result', id: 3 });
    const wider = grantIn(socket.frames.at(-1)!).lease;
    const ports = { first: lease.ports!.first, count: 128 };
    expect(wider).toEqual({ ...lease, ports, fence: wider.fence, remainingMs: wider.remainingMs });
    expect(relay.applied).toMatchObject([{ anchor, event: { type: 'extended', lease: { ports } } }]);
    const more = await socket.ask({ type: 'extend', lease: lease.id, ports: 512, id: 4 });
    expect(errorIn(more)).toMatchObject({ rsip: 309, name: 'LOCAL_ADDRPORT_UNAVAILABLE', temporary: false });
    expect((await registry.snapshot(anchor)).leases[0]?.ports).toEqual(ports);
  });

  it('is freed in the registry and at its owner, and freeing it again is the same answer', async () => {
    expect(await socket.ask({ type: 'free', lease: lease.id, id: 3 })).toMatchObject({ type: 'result' });
    expect(relay.applied).toMatchObject([{ anchor, event: { type: 'ended', reason: 'freed' } }]);
    expect((await registry.snapshot(anchor)).leases).toEqual([]);
    expect(await socket.ask({ type: 'free', lease: lease.id, id: 4 })).toMatchObject({ type: 'result' });
  });

  it('R21: goes with all others when its device de-registers, which is another registration afterwards', async () => {
    const { lease: second } = grantIn(await socket.ask({ ...wish('b'), id: 3 }));
    const neighbour = await greeted(1);
    const { lease: other } = grantIn(await neighbour.ask({ ...wish('c'), id: 2 }));
    const before = (await registry.registration(lease.device))?.clientId;
    const answer = await socket.ask({ type: 'deregister', id: 4 });
    const { freed } = (answer as unknown as { result: { freed: string[] } }).result;
    expect(freed).toEqual(expect.arrayContaining([lease.id, second.id]));
    expect(await registry.deviceLeases(lease.device)).toEqual([]);
    expect((await registry.snapshot(anchor)).leases.map(({ id }) => id)).toEqual([other.id]);
    const told = relay.applied.filter((one) => one.anchor === anchor);
    expect(told.map(({ event }) => event.type)).toEqual(['ended', 'ended']);
    expect(await registry.registration(lease.device)).toBeNull();
    expect(await socket.ask({ type: 'deregister', id: 5 })).toMatchObject({ result: { freed: [] } });
    await greeted();
    const after = (await registry.registration(lease.device))?.clientId;
    expect(after).toBeDefined();
    expect(after).not.toBe(before);
  });

  it('is freed although its owner is away', async () => {
    relay.reach = () => Promise.reject(new Error('connection refused'));
    expect(await socket.ask({ type: 'free', lease: lease.id, id: 3 })).toMatchObject({ type: 'result' });
    expect((await registry.snapshot(anchor)).leases).toEqual([]);
  });

  it('freed on a socket is not news to it when the owner reports the end', async () => {
    relay.reach = async () => {
      door.signalling.pushEnded(lease.device, lease.id, 'freed');
    };
    await socket.ask({ type: 'free', lease: lease.id, id: 3 });
    expect(socket.frames.some(({ type }) => type === 'ended')).toBe(false);
  });

  it('rebinds through its owner, which gets the sealed octets and the canonical address', async () => {
    const datagram = 'A'.repeat(155);
    const frame = { type: 'rebind', lease: lease.id, datagram, address: '::ffff:192.0.2.9', port: 4_000 };
    expect(await socket.ask({ ...frame, id: 3 })).toMatchObject({ type: 'result' });
    expect(relay.rebinds).toEqual([{ anchor, datagram, address: '192.0.2.9', port: 4_000 }]);
  });

  it('R16: is out of reach for another device, in every way and in the same words', async () => {
    const stranger = await greeted(1);
    const before = relay.installs.length;
    const rebind = { type: 'rebind', datagram: 'A'.repeat(155), address: '192.0.2.9', port: 4_000 };
    const frames = [{ type: 'attach' }, { type: 'extend' }, { type: 'free' }, rebind];
    for (const [at, frame] of frames.entries()) {
      const foreign = errorIn(await stranger.ask({ ...frame, lease: lease.id, id: 10 + at }));
      expect(foreign).toMatchObject({ rsip: 306, temporary: false });
      const nobody = `${anchor}.${'N'.repeat(22)}`;
      const unheld = errorIn(await stranger.ask({ ...frame, lease: nobody, id: 20 + at }));
      expect(unheld.message.replace(nobody, '')).toBe(foreign.message.replace(lease.id, ''));
    }
    expect(relay.installs.length).toBe(before);
    expect([...relay.applied, ...relay.rebinds]).toEqual([]);
    expect((await registry.snapshot(anchor)).leases).toMatchObject([{ id: lease.id }]);
  });
});
