import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { SignallingLimits } from '../../../src/signalling/limits.ts';
import type { SignallingOptions } from '../../../src/signalling/signalling.ts';
import { LEASE_ID, leaseOf, type Scripted, scripted, unavailable } from './scripted-registry.ts';
import { type Authority, openDoor, startAuthority, type TestDoor, type TestSocket } from './test-door.ts';

let authority: Authority;
let script: Scripted;
const doors: TestDoor[] = [];

beforeAll(async () => {
  authority = await startAuthority(1);
});
afterAll(() => authority.close());
afterEach(async () => {
  for (const door of doors.splice(0)) await door.close();
});

async function open(
  limits: Partial<SignallingLimits>,
  more: Partial<SignallingOptions> = {},
): Promise<TestDoor> {
  script = scripted();
  const door = await openDoor({ ...script, verifier: authority.verifier, limits, ...more });
  doors.push(door);
  return door;
}

async function greeted(door: TestDoor, autoPong = true): Promise<TestSocket> {
  const socket = await door.connect({ autoPong });
  await socket.hello(authority.devices[0]!, authority);
  return socket;
}

const device = { tenant: 'acme', id: 'laptop-1' };
const LEASE = { type: 'lease', request: 'ab'.repeat(16), pool: 'whole', kind: 'rsa-ip' };
const REBIND = {
  type: 'rebind',
  lease: LEASE_ID,
  datagram: 'A'.repeat(155),
  address: '192.0.2.9',
  port: 4000,
};

describe('a socket', () => {
  it('is pinged at the announced interval and stays while it answers', async () => {
    const door = await open({ pingIntervalMs: 250 });
    const socket = await greeted(door);
    let pings = 0;
    socket.ws.on('ping', () => {
      pings += 1;
    });
    await expect.poll(() => pings, { timeout: 5_000 }).toBeGreaterThan(4);
    expect(socket.ws.readyState).toBe(socket.ws.OPEN);
  });

  it('whose other end is gone is given up within two intervals', async () => {
    const door = await open({ pingIntervalMs: 100 });
    const startedMs = performance.now();
    const socket = await greeted(door, false);
    await expect(socket.closed).resolves.toMatchObject({ code: 4001 });
    expect(performance.now() - startedMs).toBeLessThan(1_000);
    await expect.poll(() => door.signalling.sockets).toBe(0);
  });

  it('that does not read is closed before its queue passes the bound, and memory does not grow with it', async () => {
    const door = await open({ bufferedBytes: 65_536, closeTimeoutMs: 200 });
    const socket = await greeted(door);
    socket.ws.pause();
    const before = process.memoryUsage().rss;
    // As much as loopback's own buffers may take, many times over.
    for (let count = 0; count < 400_000 && door.signalling.sockets > 0; count += 1) {
      door.signalling.pushEnded(device, LEASE_ID, 'expired');
      if (count % 1_000 === 0) await new Promise((resolve) => setImmediate(resolve));
    }
    await expect.poll(() => door.signalling.sockets, { timeout: 5_000 }).toBe(0);
    expect(process.memoryUsage().rss - before).toBeLessThan(100e6);
    socket.ws.resume();
    const { code } = await socket.closed;
    expect([4101, 1006]).toContain(code);
  });

  it('that sends too fast is told to wait, and is closed when it goes on', async () => {
    const door = await open({ framesPerSecond: 10, frameBurst: 5, rateRefusals: 20 });
    const socket = await greeted(door);
    for (let id = 2; id < 60; id += 1) socket.send({ type: 'ping', id });
    await expect(socket.closed).resolves.toMatchObject({ code: 4100 });
    const answers = socket.frames.filter((frame) => 'id' in frame && (frame.id ?? 0) > 1);
    expect(answers.filter(({ type }) => type === 'result').length).toBeLessThanOrEqual(5);
    const [refused] = answers.filter((frame) => frame.type === 'error');
    expect(refused).toMatchObject({ error: { code: 'ERR_MOORING_TOO_MANY_REQUESTS', temporary: true } });
    expect(answers.length).toBeLessThanOrEqual(5 + 22);
  });

  it('that floods with WebSocket pings is closed', async () => {
    const door = await open({ framesPerSecond: 10, frameBurst: 5, rateRefusals: 20 });
    const socket = await greeted(door);
    for (let count = 0; count < 100; count += 1) socket.ws.ping();
    const { code } = await socket.closed;
    // Its own close frame, or cut off by the bound of unsent pongs.
    expect([4100, 1006]).toContain(code);
  });
});

describe('a socket whose token has expired', () => {
  it('gets no new lease, extension or key after the grace, but rebinds and frees', async () => {
    let aheadMs = 0;
    const door = await open({ tokenGraceMs: 60_000 }, { wallMs: () => Date.now() + aheadMs });
    const socket = await greeted(door);
    expect(await socket.ask({ ...LEASE, id: 2 })).toMatchObject({ type: 'result' });
    aheadMs = 650_000;
    expect(await socket.ask({ type: 'extend', id: 3, lease: LEASE_ID })).toMatchObject({ type: 'result' });
    aheadMs = 670_000;
    for (const [id, frame] of [
      [4, LEASE],
      [5, { type: 'extend', lease: LEASE_ID }],
      [6, { type: 'attach', lease: LEASE_ID }],
    ] as const) {
      const answer = await socket.ask({ ...frame, id });
      expect(answer).toMatchObject({ error: { code: 'ERR_MOORING_TOKEN_EXPIRED', temporary: false } });
    }
    expect(await socket.ask({ ...REBIND, id: 7 })).toMatchObject({ type: 'result' });
    expect(await socket.ask({ type: 'free', id: 8, lease: LEASE_ID })).toMatchObject({ type: 'result' });
  });
});

describe('a rebind', () => {
  it('reaches the owner relay while the registry is away', async () => {
    const door = await open({});
    const socket = await greeted(door);
    await socket.ask({ ...LEASE, id: 2 });
    script.registry.owner = () => Promise.reject(unavailable());
    script.registry.deviceLeases = () => Promise.reject(unavailable());
    expect(await socket.ask({ ...REBIND, id: 3 })).toMatchObject({ type: 'result' });
    expect(script.calls.at(-1)).toBe('rebind');
  });

  it('of a lease that another device holds is refused in the words for one that nobody holds', async () => {
    const door = await open({});
    const socket = await greeted(door);
    script.leases = [leaseOf(device)];
    const foreign = { ...REBIND, lease: `anchor-1.${'F'.repeat(22)}`, id: 2 };
    expect(await socket.ask(foreign)).toMatchObject({ error: { rsip: 306, name: 'BAD_BIND_ID' } });
    expect(script.calls).not.toContain('rebind');
  });
});

describe('a node that goes away', () => {
  it('says goaway, closes each socket at its own instant of the drain, and takes no new ones', async () => {
    const instants = [0.1, 0.9, 0.5];
    let at = 0;
    const door = await open(
      { socketsPerDevice: 3 },
      {
        random(octets) {
          const bytes = Buffer.alloc(octets, at);
          if (octets === 4) bytes.writeUInt32BE(Math.floor((instants[at] ?? 0) * 2 ** 32));
          at += octets === 4 ? 1 : 0;
          return bytes;
        },
      },
    );
    const sockets = [await greeted(door), await greeted(door), await greeted(door)];
    const order: number[] = [];
    for (const [which, socket] of sockets.entries()) {
      void socket.closed.then(({ code }) => {
        expect(code).toBe(4000);
        order.push(which);
      });
    }
    const closed = door.signalling.close(600);
    await expect.poll(() => sockets.every(({ frames }) => frames.at(-1)?.type === 'goaway')).toBe(true);
    expect(sockets[0]!.frames.at(-1)).toEqual({ type: 'goaway', withinMs: 600 });
    expect((await fetch(`http://127.0.0.1:${door.port}/healthz`)).status).toBe(503);
    await expect(door.connect()).rejects.toThrow('HTTP 503: this node is going away');
    await closed;
    expect(order).toEqual([0, 2, 1]);
    doors.pop();
  });

  it('answers what is under way before it closes a socket', async () => {
    const door = await open({});
    const socket = await greeted(door);
    let openGate = () => {};
    const gate = new Promise<void>((resolve) => {
      openGate = resolve;
    });
    script.gate = () => gate;
    const answer = socket.ask({ ...LEASE, id: 2 });
    await expect.poll(() => script.calls).toContain('grant');
    const closed = door.signalling.close(0);
    await expect.poll(() => socket.frames.at(-1)?.type).toBe('goaway');
    openGate();
    expect(await answer).toMatchObject({ type: 'result', id: 2 });
    await closed;
    doors.pop();
  });
});
