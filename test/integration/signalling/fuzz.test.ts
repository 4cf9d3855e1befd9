import { connect } from 'node:net';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { scripted } from './scripted-registry.ts';
import { type Authority, openDoor, startAuthority, type TestDoor } from './test-door.ts';

/** Over real sockets, which is slow: the parser behind them is fuzzed by itself (test/fuzz). */
const FUZZ_MS = 2_500;

let authority: Authority;
let door: TestDoor;

beforeAll(async () => {
  authority = await startAuthority(1);
  door = await openDoor({
    ...scripted(),
    verifier: authority.verifier,
    limits: { framesPerSecond: 1e6, frameBurst: 1e6, strangersPerAddress: 1_000, closeTimeoutMs: 200 },
  });
});
afterAll(async () => {
  await door.close();
  await authority.close();
});

/** xorshift32: the whole run follows from one seed. */
function generator(seed: number): (below: number) => number {
  let state = seed | 1;
  return (below) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % below;
  };
}

const SEEDS = [
  '{"type":"ping","id":1}',
  `{"type":"lease","id":2,"request":"${'a'.repeat(32)}","pool":"whole","kind":"rsa-ip"}`,
  `{"type":"rebind","id":3,"lease":"a.${'L'.repeat(22)}","datagram":"AAAAAAAA","address":"::1","port":1}`,
  `{"type":"hello","id":4,"token":"${'t'.repeat(40)}","proof":"${'p'.repeat(40)}","sealingKey":{}}`,
];

describe('fuzzing', () => {
  it(`frames of an open socket for ${FUZZ_MS} ms: nothing throws, each socket closes cleanly, memory stays`, async () => {
    const seed = Date.now() & 0x7fffffff;
    const below = generator(seed);
    const faults: unknown[] = [];
    const onFault = (error: unknown) => faults.push(error);
    process.on('uncaughtException', onFault);
    process.on('unhandledRejection', onFault);
    const mutate = (): Buffer => {
      const bytes = Buffer.from(SEEDS[below(SEEDS.length)]!);
      for (let count = below(4); count > 0; count -= 1) bytes[below(bytes.length)] = below(256);
      return bytes.subarray(0, below(8) === 0 ? below(bytes.length) : bytes.length);
    };
    const endMs = performance.now() + FUZZ_MS;
    const codes = new Map<number, number>();
    let frames = 0;
    let sockets = 0;
    let warmRss = 0;
    try {
      while (performance.now() < endMs) {
        const socket = await door.connect();
        sockets += 1;
        if (below(2) === 0) await socket.hello(authority.devices[0]!, authority);
        for (let count = 0; count < 200 && socket.ws.readyState === socket.ws.OPEN; count += 1) {
          socket.ws.send(mutate(), { binary: below(50) === 0, fin: below(20) !== 0 });
          frames += 1;
          if (count % 20 === 0) await new Promise((resolve) => setImmediate(resolve));
        }
        if (socket.ws.readyState === socket.ws.OPEN) socket.send('[');
        const { code } = await socket.closed;
        codes.set(code, (codes.get(code) ?? 0) + 1);
        if (warmRss === 0 && performance.now() > endMs - FUZZ_MS / 2) warmRss = process.memoryUsage().rss;
      }
    } finally {
      process.off('uncaughtException', onFault);
      process.off('unhandledRejection', onFault);
    }
    const context = `seed ${seed}, ${sockets} sockets, ${frames} frames, closed with ${JSON.stringify([...codes])}`;
    expect(faults, context).toEqual([]);
    expect(
      [...codes.keys()].filter((code) => ![1002, 1007, 1008, 4200, 4202, 4203].includes(code)),
      context,
    ).toEqual([]);
    expect(process.memoryUsage().rss - warmRss, context).toBeLessThan(80e6);
    await expect.poll(() => door.signalling.sockets).toBe(0);
  });

  it('the HTTP side with raw octets leaves the door serving', async () => {
    const below = generator(Date.now() & 0x7fffffff);
    const text =
      'GET /v1 HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\r\n';
    for (let count = 0; count < 200; count += 1) {
      const bytes = Buffer.from(text);
      for (let flips = 1 + below(6); flips > 0; flips -= 1) bytes[below(bytes.length)] = below(256);
      await new Promise<void>((resolve) => {
        const socket = connect(door.port, '127.0.0.1', () => socket.end(bytes));
        socket.on('error', () => {});
        socket.on('close', () => resolve());
        socket.resume();
      });
    }
    expect((await fetch(`http://127.0.0.1:${door.port}/healthz`)).status).toBe(200);
    expect(door.signalling.sockets).toBe(0);
  });
});
