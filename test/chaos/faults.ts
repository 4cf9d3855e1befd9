import { setTimeout as wait } from 'node:timers/promises';
import { CLIENTS } from '../../infra/lab/redis-shapes.ts';
import { anchorKeys } from '../../src/registry/keys.ts';
import { monotonicMs } from '../../src/telemetry/clock.ts';
import { numbersFrom } from './random.ts';
import { ANCHORS } from './scene.ts';
import { rejoin } from './scripts.ts';
import type { RelayHost, World } from './world.ts';

/** Breaks something, keeps it broken for a while, mends it. */
interface Fault {
  readonly name: string;
  /** How often, against the others. */
  readonly weight: number;
  run(): Promise<void>;
}

/** The relay faults and the registry faults run beside each other, each one at a time. */
export async function breakThings(world: World, seed: number, forMs: number): Promise<string[]> {
  const untilMs = monotonicMs() + forMs;
  const told: string[] = [];
  const loop = async (faults: readonly Fault[], salt: number) => {
    const random = numbersFrom(seed * 2 + salt);
    const bag = faults.flatMap((fault) => Array.from({ length: fault.weight }, () => fault));
    while (monotonicMs() < untilMs) {
      await wait(300 + random.below(1_500));
      if (monotonicMs() >= untilMs) break;
      const fault = random.of(bag);
      told.push(`${Math.round(untilMs - monotonicMs())} ms before the end: ${fault.name}`);
      await fault.run();
    }
  };
  await Promise.all([
    loop(registryFaults(world, numbersFrom(seed + 11)), 0),
    loop(relayFaults(world, numbersFrom(seed + 13)), 1),
  ]);
  return told;
}

type Random = ReturnType<typeof numbersFrom>;

function registryFaults(world: World, random: Random): Fault[] {
  const { shape, fault } = world;
  const keyOf = () => anchorKeys(random.of(ANCHORS).id)[0] as string;
  const between = (leastMs: number, mostMs: number) => leastMs + random.below(mostMs - leastMs);
  const hasReplicas = shape.servers.length > 1;
  const isCluster = hasReplicas && shape.sentinels.length === 0;

  /** Until the shape has a primary of every anchor again; or for so long as sentinels may take that have no good replica. */
  const mended = async () => {
    for (const { id } of ANCHORS) {
      const primary = await shape.primaryOf(anchorKeys(id)[0] as string).catch(() => null);
      // Sentinels tell a former primary after ten seconds; mostly an operator is quicker.
      if (primary !== null && shape.sentinels.length > 0 && random.below(6) > 0) await rejoin(shape, primary);
    }
  };

  const killed: Fault = {
    name: 'a primary is killed and starts again',
    weight: 3,
    async run() {
      const primary = await shape.primaryOf(keyOf());
      fault(hasReplicas ? 'fail-over' : 'killed', primary.name);
      await primary.kill();
      await wait(between(200, hasReplicas ? 4_000 : 1_500));
      await primary.restart();
      fault('restarted', primary.name);
      await mended();
    },
  };
  const stopped: Fault = {
    name: 'a primary hangs and comes back',
    weight: 3,
    async run() {
      const primary = await shape.primaryOf(keyOf());
      fault(hasReplicas ? 'fail-over' : 'stopped', primary.name);
      primary.pause();
      await wait(between(300, 5_000));
      primary.resume();
      fault('continued', primary.name);
      await mended();
    },
  };
  const cutOff: Fault = {
    name: 'a primary that clients still reach is cut off from everybody else',
    weight: 3,
    async run() {
      const primary = await shape.primaryOf(keyOf());
      const others = [...shape.servers, ...shape.sentinels].filter((one) => one !== primary);
      fault('fail-over', primary.name);
      await shape.cut(
        [primary.name],
        others.map(({ name }) => name),
      );
      await wait(between(1_500, 7_000));
      await shape.heal();
      fault('healed', primary.name);
      await mended();
    },
  };
  const unheard: Fault = {
    name: 'a primary is cut off from its clients',
    weight: 1,
    async run() {
      const primary = await shape.primaryOf(keyOf());
      fault('partitioned', primary.name);
      await shape.cut([primary.name], [CLIENTS]);
      await wait(between(300, 3_000));
      await shape.heal();
      fault('healed', primary.name);
    },
  };
  const replica: Fault = {
    name: 'a replica is killed and starts again',
    weight: 1,
    async run() {
      const primary = await shape.primaryOf(keyOf());
      const one = random.of(shape.servers.filter((server) => server !== primary));
      fault('killed', one.name);
      await one.kill();
      await wait(between(200, 2_000));
      await one.restart();
      fault('restarted', one.name);
      await mended();
    },
  };
  const sentinel: Fault = {
    name: 'a sentinel hangs',
    weight: 1,
    async run() {
      const one = random.of(shape.sentinels);
      fault('stopped', one.name);
      one.pause();
      await wait(between(500, 3_000));
      one.resume();
      fault('continued', one.name);
    },
  };
  return [
    killed,
    stopped,
    unheard,
    ...(hasReplicas ? [cutOff, replica] : []),
    ...(hasReplicas && !isCluster ? [sentinel] : []),
  ];
}

function relayFaults(world: World, random: Random): Fault[] {
  const { relays, fault } = world;
  const between = (leastMs: number, mostMs: number) => leastMs + random.below(mostMs - leastMs);
  const during = async (relay: RelayHost, ms: number, begin: () => void, end: () => void) => {
    fault('partitioned', relay.id);
    begin();
    await wait(ms);
    end();
    fault('healed', relay.id);
  };
  return [
    {
      name: 'a relay is killed and starts again',
      weight: 3,
      async run() {
        const relay = random.of(relays);
        fault('killed', relay.id);
        await relay.kill();
        await wait(between(0, 2_500));
        await relay.start();
        fault('restarted', relay.id);
      },
    },
    {
      name: 'a relay hangs and comes back',
      weight: 3,
      async run() {
        const relay = random.of(relays);
        fault('stopped', relay.id);
        relay.pause();
        await wait(between(200, 4_000));
        relay.resume();
        fault('continued', relay.id);
      },
    },
    {
      name: 'a relay does not hear the registry',
      weight: 2,
      async run() {
        const relay = random.of(relays);
        await during(
          relay,
          between(500, 4_000),
          () => relay.hear({ registry: random.below(2) === 0 ? 'none' : 'answers' }),
          () => relay.hear({ registry: 'both' }),
        );
      },
    },
    {
      name: 'a relay does not hear the other one',
      weight: 2,
      async run() {
        const relay = random.of(relays);
        await during(
          relay,
          between(500, 4_000),
          () => relay.hear({ planes: false }),
          () => relay.hear({ planes: true }),
        );
      },
    },
    {
      name: 'a relay hears nobody',
      weight: 2,
      async run() {
        const relay = random.of(relays);
        await during(
          relay,
          between(500, 4_000),
          () => relay.hear({ registry: 'none', planes: false }),
          () => relay.hear({ registry: 'both', planes: true }),
        );
      },
    },
  ];
}
