import { describe, expect, test } from 'vitest';
import { seededRandom } from '../../../infra/lab/seeded-random.ts';
import { createDeviceRebinding } from '../../../src/rebinding/device.ts';
import { createRelayRebinding } from '../../../src/rebinding/relay.ts';
import { RebindingWorld } from '../../simulation/rebinding/world.ts';

/** A device bound on Wi-Fi, 40 ms round trip, packets every 20 ms in both directions. */
function boundWorld(delayMs = 20): RebindingWorld {
  const world = new RebindingWorld({ createDeviceRebinding, createRelayRebinding }, seededRandom(1));
  world.network.conditions.delayMs = delayMs;
  world.use('wifi', 'unknown');
  world.run(2_000);
  expect(world.disagreement()).toBeNull();
  expect(world.active).toEqual(world.network.address('wifi'));
  return world;
}

describe('a move', () => {
  test('starts from nothing in three round trips', () => {
    const world = new RebindingWorld({ createDeviceRebinding, createRelayRebinding }, seededRandom(1));
    world.use('wifi', 'unknown');
    world.run(3 * 40 + 1);
    expect(world.disagreement()).toBeNull();
    expect(world.broken).toEqual([]);
  });

  test('with both links up loses nothing and takes one and a half round trips to the flip', () => {
    const world = boundWorld();
    const before = world.relayEnd.flips.length;
    world.use('cell', 'alive');
    expect(world.device.uplink).toBe('wifi');
    world.run(59);
    expect(world.relayEnd.flips.length).toBe(before);
    world.run(2);
    expect(world.active).toEqual(world.network.address('cell'));
    world.run(500);
    expect(world.device.uplink).toBe('cell');
    const sequences = world.deviceEnd.downlink.map(({ sequence }) => sequence);
    expect(sequences).toEqual(Array.from(sequences, (_, at) => sequences[0]! + at));
    expect(world.broken).toEqual([]);
  });

  test('with the old link cut holds downlink and releases it before the flip', () => {
    const world = boundWorld();
    const from = world.relayEnd.outputs.length;
    world.cut('wifi');
    expect(world.device.uplink).toBe('cell');
    world.run(100);
    const kinds = world.relayEnd.outputs.slice(from).map(({ type }) => type);
    expect(kinds.filter((type) => type === 'hold' || type === 'release' || type === 'flip')).toEqual([
      'hold',
      'release',
      'flip',
    ]);
    expect(world.disagreement()).toBeNull();
  });

  test("survives a silent change of the NAT's port well below a second at 80 ms round trip", () => {
    const world = boundWorld(40);
    const atMs = world.nowMs;
    const address = world.network.remap('wifi');
    world.run(1_000);
    expect(world.active).toEqual(address);
    expect(world.relayEnd.flips.at(-1)!.atMs - atMs).toBeLessThan(500);
    expect(world.disagreement()).toBeNull();
  });

  test('is found out by a device that only receives', () => {
    const world = boundWorld(40);
    world.sendsData = false;
    world.run(5_000);
    const atMs = world.nowMs;
    const address = world.network.remap('wifi');
    world.run(2_000);
    expect(world.active).toEqual(address);
    expect(world.relayEnd.flips.at(-1)!.atMs - atMs).toBeLessThan(1_200);
  });

  test('A to B and back to A inside one round trip ends at A', () => {
    const world = boundWorld();
    world.use('cell', 'alive');
    world.run(5);
    world.use('wifi', 'alive');
    world.run(500);
    expect(world.active).toEqual(world.network.address('wifi'));
    expect(world.relay.generation).toBe(world.device.generation);
    expect(world.disagreement()).toBeNull();
  });
});

describe('a change of the relay', () => {
  test('by planned hand-over keeps the path and changes the keys without a gap', () => {
    const world = boundWorld();
    const before = world.deviceEnd.downlink.length;
    world.handOver();
    world.run(1_000);
    expect(world.disagreement()).toBeNull();
    expect(world.device.epoch).toBe(world.relayEnd.epoch);
    expect(world.deviceEnd.downlink.length - before).toBeGreaterThanOrEqual(49);
    expect(world.broken).toEqual([]);
  });

  test('by a restart that remembers the last path is over in one and a half round trips', () => {
    const world = boundWorld();
    world.restartRelay('known');
    world.run(62);
    expect(world.disagreement()).toBeNull();
    expect(world.broken).toEqual([]);
  });

  test('by a restart that hears of the last path when it is asked for is over hardly later', () => {
    const world = boundWorld();
    world.restartRelay('late');
    world.run(62 + 15);
    expect(world.disagreement()).toBeNull();
    expect(world.broken).toEqual([]);
  });

  test('by a restart that remembers nothing is found out by the device', () => {
    const world = boundWorld();
    world.restartRelay('none');
    world.run(1_000);
    expect(world.disagreement()).toBeNull();
  });

  test('is found out after minutes of absence too', () => {
    const world = boundWorld();
    world.restartRelay('none', 120_000);
    world.run(120_000 + 6_000);
    expect(world.disagreement()).toBeNull();
  });
});
