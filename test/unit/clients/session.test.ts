import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { DATA } from '../../../src/tunnel/wire.ts';
import { esp, ip } from '../datapath/packets.ts';
import { LEASED, PEER, SessionWorld, up } from './session-world.ts';

/** Bound on Wi-Fi, 20 ms round trip, 500 packets/s each way. */
function flowing(): SessionWorld {
  const world = new SessionWorld();
  world.use('wifi', 'unknown');
  world.run(500);
  expect(world.session.status()).toMatchObject({ uplink: 'wifi', bound: 'wifi' });
  world.flowing = true;
  world.run(500);
  expect(world.received.up.length).toBeGreaterThan(200);
  return world;
}

/** Lets everything on its way arrive. */
function settle(world: SessionWorld): void {
  world.flowing = false;
  world.run(1_500);
}

describe("a device's session against the relay's engine", () => {
  test('binds, and carries packets both ways byte for byte', () => {
    const world = flowing();
    settle(world);
    expect(world.missing('up')).toEqual([]);
    expect(world.missing('down')).toEqual([]);
    expect(world.session.status().observed).toEqual(world.addresses.get('wifi'));
  });

  test('packets that come before there is a path wait for it, in order', () => {
    const world = new SessionWorld();
    world.flowing = true;
    world.run(100);
    expect(world.received.up).toEqual([]);
    world.use('wifi', 'unknown');
    world.run(300);
    settle(world);
    expect(world.missing('up')).toEqual([]);
    expect(world.disorder('up')).toBe(0);
  });

  test('a move with both links up loses and repeats nothing', () => {
    const world = flowing();
    world.use('cell', 'alive');
    world.run(500);
    expect(world.session.status()).toMatchObject({ uplink: 'cell', bound: 'cell' });
    settle(world);
    expect(world.missing('up')).toEqual([]);
    expect(world.missing('down')).toEqual([]);
    expect(world.disorder('up') + world.disorder('down')).toBe(0);
  });

  test('a link that is not in use is measured while packets flow on the other, which loses nothing by it', () => {
    const world = flowing();
    for (let id = 1; id <= 5; id += 1) {
      world.session.link({ type: 'probe', link: 'cell', id }, world.nowMs);
      world.run(100);
    }
    const answers = world.events.filter((event) => event.type === 'answered');
    expect(answers).toMatchObject(
      [1, 2, 3, 4, 5].map((id) => ({ link: 'cell', id, rttMs: expect.any(Number) })),
    );
    expect(answers[0]!.rttMs).toBeLessThan(25);
    expect(world.session.status()).toMatchObject({ uplink: 'wifi', bound: 'wifi', generation: 1 });
    settle(world);
    expect(world.missing('up')).toEqual([]);
    expect(world.missing('down')).toEqual([]);
  });

  test('when the old link is cut first, only what was on it is lost', () => {
    const world = flowing();
    world.cut('wifi');
    world.run(30);
    world.use('cell', 'dead');
    const cutAt = world.sent.down;
    world.run(500);
    settle(world);
    expect(world.missing('up')).toEqual([]);
    // Downlink: until the relay hears of it, it goes on sending to the dead link.
    const unheardMs = 30 + 2 * world.delayMs;
    expect(world.missing('down').length).toBeLessThanOrEqual(unheardMs / 2 + 2);
    expect(world.missing('down', cutAt + world.delayMs / 2 + 2)).toEqual([]);
  });

  test('a NAT that changes its port silently is noticed within a second', () => {
    const world = flowing();
    world.remap('wifi', 41_111);
    const from = world.sent.down;
    world.run(1_000);
    settle(world);
    expect(world.missing('up')).toEqual([]);
    const lost = world.missing('down');
    expect(lost.every((n) => n > from - 20 && n < from + 500)).toBe(true);
    expect(world.session.status().observed?.port).toBe(41_111);
  });

  test('a planned change of the relay brings new keys and loses nothing', () => {
    const world = flowing();
    const before = world.session.status();
    world.handOver();
    world.run(500);
    settle(world);
    expect(world.session.status().epoch).toBe(before.epoch + 1n);
    expect(world.missing('up')).toEqual([]);
    expect(world.missing('down')).toEqual([]);
  });

  test('a relay that starts again is found again, under new keys', () => {
    const world = flowing();
    world.restartRelay();
    world.run(2_000);
    const from = world.sent.up;
    world.run(500);
    settle(world);
    expect(world.session.status().epoch).toBe(2n);
    expect(world.missing('up', from)).toEqual([]);
    expect(world.missing('down', from)).toEqual([]);
  });

  test('a device that starts again takes its session up under its new incarnation', () => {
    const world = flowing();
    world.restartDevice();
    world.use('cell', 'unknown');
    world.run(500);
    const from = world.sent.up;
    world.run(500);
    settle(world);
    expect(world.missing('up', from)).toEqual([]);
    expect(world.missing('down', from)).toEqual([]);
  });
});

describe('what a session refuses', () => {
  test('a packet for another address than the leased one is not delivered', () => {
    const world = new SessionWorld(10, '203.0.113.99');
    world.use('wifi', 'unknown');
    world.run(500);
    world.flowing = true;
    world.run(100);
    settle(world);
    expect(world.received.down).toEqual([]);
    expect(world.session.status().counters['not-leased']).toBe(world.sent.down);
  });

  test('no octets whatever make it throw, or deliver something', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), fc.constantFrom(0x10, 0x20, 0x30, 0), (noise, type) => {
        const world = new SessionWorld();
        world.use('wifi', 'unknown');
        if (noise.length > 0) noise[0] = type | (noise[0]! & 0x0f);
        world.session.datagram('wifi', noise, 0, noise.length, world.nowMs);
        expect(world.received.down).toEqual([]);
      }),
      { numRuns: 200 },
    );
  });

  test('a captured datagram that comes again is not delivered again', () => {
    const world = flowing();
    settle(world);
    const packet = ip(PEER, LEASED, 50, esp(0x2000, 7_777));
    world.relay.packet(packet);
    const [captured] = world.relay.takeSent().filter(({ octets }) => octets[0]! >> 4 !== 3);
    const octets = captured!.octets;
    for (let i = 0; i < 3; i += 1)
      world.session.datagram('wifi', octets.slice(), 0, octets.length, world.nowMs);
    expect(world.received.down.filter((n) => n === 7_777)).toHaveLength(1);
    expect(world.session.status().counters['refused-replayed']).toBe(2);
  });

  test('what waits without a path is bounded, and what waited too long is not sent', () => {
    const world = new SessionWorld();
    const packet = up(1);
    const roomy = new Uint8Array(DATA.inner + 1280);
    roomy.set(packet, DATA.inner);
    for (let i = 0; i < 10_000; i += 1) world.session.packet(roomy, DATA.inner, 1280, world.nowMs);
    expect(world.session.status().counters.queued).toBeLessThanOrEqual(512);
    expect(world.session.status().counters.overdue).toBeGreaterThanOrEqual(9_488);
    world.run(5_000);
    world.use('wifi', 'unknown');
    world.run(500);
    expect(world.session.status().counters.sent).toBe(0);
  });
});
