import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { createTokenVerifier } from '../../../src/auth/verifier.ts';
import { leaseOf, type Scripted, scripted, unavailable } from './scripted-registry.ts';
import {
  AUDIENCE,
  type Authority,
  DOOR_URL,
  openDoor,
  SILENT,
  startAuthority,
  type TestDoor,
} from './test-door.ts';

let authority: Authority;
let script: Scripted;
let door: TestDoor;

beforeAll(async () => {
  authority = await startAuthority(2);
});
afterAll(() => authority.close());

beforeEach(async () => {
  script = scripted();
  door = await openDoor({ ...script, verifier: authority.verifier });
});
afterEach(() => door.close());

const laptop = () => authority.devices[0]!;

describe('hello', () => {
  it('is invited by a welcome with the protocol, the URL and a nonce that no other socket gets', async () => {
    const nonces = new Set<string>();
    for (let count = 0; count < 5; count += 1) {
      const [welcome] = (await door.connect()).frames;
      expect(welcome).toMatchObject({ type: 'welcome', protocol: 'mooring.v1', url: DOOR_URL });
      if (welcome?.type === 'welcome') nonces.add(welcome.nonce);
    }
    expect(nonces.size).toBe(5);
  });

  it('is answered with the device, the leases it holds and the ping interval', async () => {
    const device = { tenant: 'acme', id: 'laptop-1' };
    script.leases = [leaseOf(device)];
    const socket = await door.connect();
    expect(await socket.hello(laptop(), authority)).toMatchObject({
      type: 'result',
      id: 1,
      result: { device, leases: script.leases, pingIntervalMs: 25_000 },
    });
  });

  it('that does not come in time ends the socket', async () => {
    const hasty = await openDoor({ ...script, verifier: authority.verifier, limits: { helloTimeoutMs: 50 } });
    try {
      const socket = await hasty.connect();
      await expect(socket.closed).resolves.toMatchObject({ code: 4201 });
    } finally {
      await hasty.close();
    }
  });

  it('that cannot be judged in time ends the socket too: a hanging registry holds no strangers', async () => {
    const hasty = await openDoor({
      ...script,
      verifier: authority.verifier,
      limits: { helloTimeoutMs: 300 },
    });
    try {
      script.gate = () => new Promise(() => {});
      const socket = await hasty.connect();
      socket.send(await socket.helloFrame(laptop(), authority));
      await expect(socket.closed).resolves.toMatchObject({ code: 4201 });
    } finally {
      await hasty.close();
    }
  });

  it('comes once: a second one ends the socket', async () => {
    const socket = await door.connect();
    const frame = await socket.helloFrame(laptop(), authority);
    await socket.ask(frame);
    expect(await socket.ask({ ...frame, id: 2 })).toMatchObject({ type: 'error', error: { rsip: 302 } });
    await expect(socket.closed).resolves.toMatchObject({ code: 4202 });
  });

  it('comes once: a second one while the first is judged ends the socket, and the first does not count', async () => {
    const socket = await door.connect();
    const frame = await socket.helloFrame(laptop(), authority);
    socket.send(frame);
    socket.send({ ...frame, id: 2 });
    await expect(socket.closed).resolves.toMatchObject({ code: 4202 });
    expect(socket.frames.some((answer) => answer.type === 'result')).toBe(false);
  });

  it('R16: comes first: work before it ends the socket with RSIP 301 and reaches neither registry nor relay', async () => {
    const socket = await door.connect();
    const free = { type: 'free', id: 1, lease: leaseOf({ tenant: 'a', id: 'b' }).id };
    expect(await socket.ask(free)).toMatchObject({
      type: 'error',
      error: { rsip: 301, name: 'REGISTER_FIRST' },
    });
    await expect(socket.closed).resolves.toMatchObject({ code: 4200 });
    expect(script.calls).toEqual([]);
  });

  it('R16: is to be answered first: work while it is judged ends the socket as well', async () => {
    script.gate = () => new Promise(() => {});
    const socket = await door.connect();
    socket.send(await socket.helloFrame(laptop(), authority));
    expect(await socket.ask({ type: 'pools', id: 2 })).toMatchObject({ error: { rsip: 301 } });
    await expect(socket.closed).resolves.toMatchObject({ code: 4200 });
    expect(socket.frames.some((answer) => answer.type === 'result')).toBe(false);
  });

  it('with a proof for another socket’s nonce is refused for good', async () => {
    const first = await door.connect();
    const second = await door.connect();
    second.send(await first.helloFrame(laptop(), authority));
    await expect(second.closed).resolves.toMatchObject({ code: 4203 });
    expect(second.frames.at(-1)).toMatchObject({
      error: { code: 'ERR_MOORING_DPOP_NONCE', temporary: false },
    });
    expect(script.calls).toEqual([]);
  });

  it('with another sealing key than the proof names is refused', async () => {
    const socket = await door.connect();
    const frame = await socket.helloFrame(laptop(), authority);
    socket.send({ ...frame, sealingKey: { kty: 'OKP', crv: 'X25519', x: 'T'.repeat(43) } });
    await expect(socket.closed).resolves.toMatchObject({ code: 4203 });
    expect(socket.frames.at(-1)).toMatchObject({ error: { code: 'ERR_MOORING_DPOP_SEAL' } });
  });

  it('while the registry is away asks the device to come back, not to change', async () => {
    script.gate = () => Promise.reject(unavailable());
    const socket = await door.connect();
    expect(await socket.hello(laptop(), authority)).toMatchObject({
      error: { temporary: true, retryAfterMs: 500 },
    });
    await expect(socket.closed).resolves.toMatchObject({ code: 4100 });
  });

  it('while the issuer is away and its keys were never seen asks the device to come back', async () => {
    const verifier = createTokenVerifier({
      issuers: [
        {
          issuer: authority.issuer.url,
          audience: AUDIENCE,
          algorithms: ['ES256'],
          jwksUri: 'http://127.0.0.1:9/',
        },
      ],
      clockToleranceS: 5,
      log: SILENT,
    });
    const lonely = await openDoor({ ...script, verifier });
    try {
      const socket = await lonely.connect();
      const answer = await socket.hello(laptop(), authority);
      expect(answer).toMatchObject({ error: { code: 'ERR_MOORING_ISSUER_UNREACHABLE', temporary: true } });
      await expect(socket.closed).resolves.toMatchObject({ code: 4100 });
    } finally {
      verifier.close();
      await lonely.close();
    }
  });
});

describe('two sockets of one device', () => {
  it('the newest wins, and the older is told not to come back', async () => {
    const older = await door.connect();
    await older.hello(laptop(), authority);
    const newer = await door.connect();
    await newer.hello(laptop(), authority);
    await expect(older.closed).resolves.toMatchObject({ code: 4204 });
    expect(await newer.ask({ type: 'ping', id: 2 })).toMatchObject({ type: 'result' });
  });

  it('that say hello at the same instant: exactly one stays', async () => {
    const sockets = await Promise.all(Array.from({ length: 6 }, () => door.connect()));
    const frames = await Promise.all(sockets.map((socket) => socket.helloFrame(laptop(), authority)));
    for (const [at, socket] of sockets.entries()) socket.send(frames[at]!);
    const codes: number[] = [];
    for (const socket of sockets) void socket.closed.then(({ code }) => codes.push(code));
    await expect.poll(() => codes.length).toBe(5);
    expect(codes).toEqual(Array(5).fill(4204));
    const [last] = sockets.filter(({ ws }) => ws.readyState === ws.OPEN);
    expect(await last!.ask({ type: 'ping', id: 9 })).toMatchObject({ type: 'result' });
  });

  it('of two devices do not disturb each other', async () => {
    const first = await door.connect();
    const second = await door.connect();
    await first.hello(laptop(), authority);
    await second.hello(authority.devices[1]!, authority);
    expect(await first.ask({ type: 'ping', id: 2 })).toMatchObject({ type: 'result' });
  });

  it('an end of a lease is pushed to the device that held it only', async () => {
    const first = await door.connect();
    const second = await door.connect();
    await first.hello(laptop(), authority);
    await second.hello(authority.devices[1]!, authority);
    const lease = leaseOf({ tenant: 'acme', id: 'laptop-1' }).id;
    door.signalling.pushEnded({ tenant: 'acme', id: 'laptop-1' }, lease, 'expired');
    door.signalling.pushEnded({ tenant: 'other', id: 'laptop-2' }, lease, 'revoked');
    await expect.poll(() => first.frames.at(-1)).toEqual({ type: 'ended', lease, reason: 'expired' });
    await second.ask({ type: 'ping', id: 2 });
    expect(second.frames.some(({ type }) => type === 'ended')).toBe(false);
  });
});
