import fc from 'fast-check';
import { seededRandom } from '../../../infra/lab/seeded-random.ts';
import { socketAddress } from '../../../src/protocol/address.ts';
import { type Machines, RebindingWorld } from './world.ts';

/** With the 30 ms by which a duplicate may lag. */
const MOST_JITTER_MS = 70;
const LINKS = ['wifi', 'cell'] as const;
type Link = (typeof LINKS)[number];

/** What happens to device, relay and network, or what the attacker does. */
export type Happening =
  | { readonly do: 'move'; readonly to: Link; readonly oldPath: 'alive' | 'unknown' }
  | { readonly do: 'cut' | 'restore' | 'remap' | 'probe'; readonly link: Link }
  | { readonly do: 'leaving' | 'restart-device' | 'hand-over' | 'rekey' }
  | { readonly do: 'restart-relay'; readonly hint: 'none' | 'known' | 'late'; readonly gapMs: number }
  | { readonly do: 'network'; readonly loss: number; readonly duplication: number; readonly jitterMs: number }
  | { readonly do: 'traffic'; readonly up: boolean; readonly down: boolean }
  /** Send a captured uplink datagram (`which`: 0 the first, 1 the last) from an address of the attacker, or of the device. */
  | { readonly do: 'replay'; readonly which: number; readonly from: number; readonly spoof: boolean }
  | { readonly do: 'replay-down'; readonly which: number }
  /** Be faster than the original with the next datagrams, from an own address or under that of a link of the device. */
  | { readonly do: 'race'; readonly from: number; readonly as: Link | null; readonly count: number };

export interface Scenario {
  readonly seed: number;
  readonly delayMs: number;
  readonly steps: readonly { readonly afterMs: number; readonly what: Happening }[];
}

const link = fc.constantFrom(...LINKS);
const share = fc.double({ min: 0, max: 1, noNaN: true });
const happening: fc.Arbitrary<Happening> = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record({
      do: fc.constant('move' as const),
      to: link,
      oldPath: fc.constantFrom('alive' as const, 'unknown' as const),
    }),
  },
  { weight: 5, arbitrary: fc.record({ do: fc.constantFrom('cut', 'restore', 'remap'), link }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('probe' as const), link }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constantFrom('leaving', 'hand-over', 'rekey') }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('restart-device' as const) }) },
  {
    weight: 1,
    arbitrary: fc.record({
      do: fc.constant('restart-relay' as const),
      hint: fc.constantFrom('none', 'known', 'late'),
      gapMs: fc.integer({ min: 0, max: 400 }),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constant('network' as const),
      loss: fc.constantFrom(0, 0.05, 0.3, 0.9),
      duplication: fc.constantFrom(0, 0.1, 0.5),
      jitterMs: fc.constantFrom(0, 5, 40),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({ do: fc.constant('traffic' as const), up: fc.boolean(), down: fc.boolean() }),
  },
  {
    weight: 6,
    arbitrary: fc.record({
      do: fc.constant('replay' as const),
      which: share,
      from: fc.integer({ min: 0, max: 3 }),
      spoof: fc.boolean(),
    }),
  },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('replay-down' as const), which: share }) },
  {
    weight: 3,
    arbitrary: fc.record({
      do: fc.constant('race' as const),
      from: fc.integer({ min: 0, max: 3 }),
      as: fc.constantFrom(null, ...LINKS),
      count: fc.integer({ min: 1, max: 5 }),
    }),
  },
);

export const scenario: fc.Arbitrary<Scenario> = fc.record({
  seed: fc.nat(),
  delayMs: fc.integer({ min: 1, max: 60 }),
  steps: fc.array(
    fc.record({
      afterMs: fc.oneof(fc.integer({ min: 0, max: 60 }), fc.integer({ min: 0, max: 700 })),
      what: happening,
    }),
    { maxLength: 14 },
  ),
});

/** After the last fault the two ends agree within this time, one-way delay `delayMs`: 1 s and two round trips. */
export const settleMs = (delayMs: number): number => 1_000 + 4 * delayMs;

export interface Outcome {
  readonly world: RebindingWorld;
  /** What is still wrong when they ought to have agreed; null: nothing. */
  readonly disagreement: string | null;
}

/** Plays a scenario, then stops every fault and the attacker, and gives both ends their time to settle. */
export function play(machines: Machines, { seed, delayMs, steps }: Scenario): Outcome {
  const world = new RebindingWorld(machines, seededRandom(seed));
  world.network.conditions.delayMs = delayMs;
  world.use('wifi', 'unknown');
  world.run(10 * delayMs);
  for (const { afterMs, what } of steps) {
    world.run(afterMs);
    happen(world, what);
  }
  world.network.racing = null;
  Object.assign(world.network.conditions, { loss: 0, duplication: 0, jitterMs: 0 });
  world.sendsData = true;
  world.receivesData = true;
  if (LINKS.every((name) => !world.network.links.get(name)!.up)) world.restore('wifi');
  // The last fault is over when the relay is up and what was sent before has arrived.
  world.runUntil(Math.max(world.nowMs, world.relayEnd.upMs) + delayMs + MOST_JITTER_MS);
  world.run(settleMs(delayMs));
  const disagreement = world.disagreement();
  world.run(2_000);
  if (world.holding) world.broken.push('a hold did not end');
  return { world, disagreement };
}

function happen(world: RebindingWorld, what: Happening): void {
  switch (what.do) {
    case 'move':
      if (world.network.links.get(what.to)!.up && world.device.uplink !== what.to)
        world.use(what.to, what.oldPath);
      break;
    case 'cut':
      world.cut(what.link);
      break;
    case 'restore':
      world.restore(what.link);
      break;
    case 'remap':
      world.network.remap(what.link);
      break;
    case 'probe':
      world.probe(what.link);
      break;
    case 'leaving':
      world.leaving();
      break;
    case 'restart-device':
      world.restartDevice();
      break;
    case 'hand-over':
      world.handOver();
      break;
    case 'rekey':
      world.rekey();
      break;
    case 'restart-relay':
      world.restartRelay(what.hint, what.gapMs);
      break;
    case 'network':
      Object.assign(world.network.conditions, {
        loss: what.loss,
        duplication: what.duplication,
        jitterMs: what.jitterMs,
      });
      break;
    case 'traffic':
      world.sendsData = what.up;
      world.receivesData = what.down;
      break;
    case 'replay': {
      const at = Math.floor(what.which * (world.network.captured.length - 1));
      const captured = world.network.captured[at];
      const spoofed =
        world.network.captured[Math.floor((what.from / 3) * (world.network.captured.length - 1))];
      if (captured) world.inject(captured, what.spoof && spoofed ? spoofed.address : attacker(what.from));
      break;
    }
    case 'replay-down':
      world.injectDown(Math.floor(what.which * (world.deviceEnd.delivered.length - 1)));
      break;
    case 'race':
      world.network.racing = {
        from: what.as === null ? attacker(what.from) : world.network.address(what.as),
        left: what.count,
      };
      break;
    default:
      what satisfies never;
  }
}

function attacker(number: number) {
  return socketAddress('203.0.113.66', 6000 + number);
}
