import fc from 'fast-check';
import { everythingComesBack } from './comeback.ts';
import { Broken } from './ledger.ts';
import { linkOf } from './network.ts';
import { unsettled } from './settled.ts';
import { MOST_DECEIVED_MS, type Shape } from './shape.ts';
import { type Ground, World } from './world.ts';

export type Act =
  | { readonly act: 'lease'; readonly device: number; readonly leaseMs: number; readonly both: boolean }
  | { readonly act: 'extend' | 'free'; readonly device: number; readonly which: number }
  | { readonly act: 'cut'; readonly link: number; readonly silent: boolean }
  | { readonly act: 'isolate'; readonly relay: number }
  | { readonly act: 'mend' }
  | { readonly act: 'pause'; readonly host: number; readonly forMs: number }
  | { readonly act: 'stall'; readonly server: number; readonly forMs: number }
  | { readonly act: 'restart'; readonly relay: number; readonly pinned: boolean }
  | { readonly act: 'lose'; readonly relay: number }
  | { readonly act: 'hand-over'; readonly anchor: number; readonly to: number }
  | {
      readonly act: 'fail-over';
      readonly server: number;
      /** For so long before, the replica heard nothing. */
      readonly lagMs: number;
      readonly deceived: number;
      readonly forMs: number;
      readonly skewMs: number;
    };

export interface Step {
  readonly afterMs: number;
  readonly what: Act;
}

export interface Schedule {
  readonly shape: Shape;
  readonly steps: readonly Step[];
}

const small = fc.nat(7);
const act = <A extends Act>(of: { [K in keyof A]: fc.Arbitrary<A[K]> }) => fc.record(of) as fc.Arbitrary<A>;
const is = <T extends string>(name: T) => fc.constant(name);

const anyAct: fc.Arbitrary<Act> = fc.oneof(
  {
    weight: 8,
    arbitrary: act({
      act: is('lease'),
      device: small,
      leaseMs: fc.constantFrom(60_000, 60_000, 3_000, 1_200),
      both: fc.boolean(),
    }),
  },
  { weight: 4, arbitrary: act({ act: fc.constantFrom('extend', 'free'), device: small, which: small }) },
  { weight: 3, arbitrary: act({ act: is('cut'), link: fc.nat(20), silent: fc.boolean() }) },
  { weight: 1, arbitrary: act({ act: is('isolate'), relay: small }) },
  { weight: 2, arbitrary: act({ act: is('mend') }) },
  {
    weight: 2,
    arbitrary: act({ act: is('pause'), host: small, forMs: fc.integer({ min: 20, max: 1_500 }) }),
  },
  {
    weight: 1,
    arbitrary: act({ act: is('stall'), server: small, forMs: fc.integer({ min: 20, max: 900 }) }),
  },
  { weight: 2, arbitrary: act({ act: is('restart'), relay: small, pinned: fc.boolean() }) },
  { weight: 1, arbitrary: act({ act: is('lose'), relay: small }) },
  { weight: 2, arbitrary: act({ act: is('hand-over'), anchor: small, to: small }) },
  {
    weight: 4,
    arbitrary: act({
      act: is('fail-over'),
      server: small,
      lagMs: fc.oneof(fc.constant(0), fc.integer({ min: 1, max: 1_200 })),
      deceived: fc.nat(63),
      forMs: fc.integer({ min: 0, max: MOST_DECEIVED_MS }),
      skewMs: fc.integer({ min: -20, max: 20 }),
    }),
  },
);

/** No two clocks part by more than what relays allow for. */
const rate = fc.constantFrom(1, 0.9955, 1.0045);
const shape: fc.Arbitrary<Shape> = fc.record({
  seed: fc.integer(),
  relays: fc.constantFrom(2, 2, 2, 3),
  anchors: fc.constantFrom(1, 1, 1, 2),
  devices: fc.constant(3),
  sharing: fc.constantFrom('whole' as const, 'shared' as const),
  cluster: fc.boolean(),
  weather: fc.constantFrom(
    { lost: 0, late: 0, twice: 0 },
    { lost: 10, late: 20, twice: 30 },
    { lost: 40, late: 60, twice: 60 },
  ),
  rates: fc.tuple(rate, rate, rate),
});

const steps = (minLength: number, maxLength: number): fc.Arbitrary<Step[]> =>
  fc.array(fc.record({ afterMs: fc.integer({ min: 0, max: 350 }), what: anyAct }), {
    ...{ minLength, maxLength },
    size: 'max',
  });

/** A lease that was acknowledged while no replica heard of it, and then the fail-over. */
const lossy: fc.Arbitrary<Step[]> = fc
  .record({
    lagMs: fc.integer({ min: 250, max: 500 }),
    device: small,
    end: fc.boolean(),
    server: fc.constant(1),
  })
  .map(({ lagMs, device, end, server }) => [
    {
      afterMs: 0,
      what: { ...{ act: 'fail-over', server, lagMs }, ...{ deceived: 0, forMs: 0, skewMs: 0 } },
    },
    { afterMs: 10, what: { act: 'lease', device, leaseMs: 60_000, both: false } },
    { afterMs: 200, what: { act: end ? 'free' : 'extend', device: device + 1, which: 0 } },
  ]);

export const schedules: fc.Arbitrary<Schedule> = fc.record({
  shape,
  steps: fc.oneof(
    { weight: 2, arbitrary: steps(3, 9) },
    { weight: 1, arbitrary: fc.tuple(lossy, steps(0, 5)).map(([first, then]) => [...first, ...then]) },
  ),
});

/** What happened, added up over schedules. */
export type Coverage = Record<string, number>;

const BEGIN_MS = 120;
/** How long after the last fault everything must work again. */
const SETTLE_MS = 9_000;
const LOOK_EVERY_MS = 100;

/** Plays a schedule; throws where a rule breaks. */
export async function play(ground: Ground, { shape: of, steps }: Schedule): Promise<Coverage> {
  const world = new World(ground, of);
  const { scheduler } = world;
  const until = (ms: number) => scheduler.runUntil(scheduler.nowMs + ms);
  try {
    await world.begin();
    await until(BEGIN_MS);
    world.devices[0]!.lease('a'.repeat(32), 60_000, false);
    world.devices[1]!.lease('b'.repeat(32), 60_000, false);
    await until(60);
    const acts: Coverage = {};
    for (const [at, { afterMs, what }] of steps.entries()) {
      await until(afterMs);
      acts[`act ${what.act}`] = (acts[`act ${what.act}`] ?? 0) + 1;
      await perform(world, what, at);
    }
    await until(150);
    world.judge.tell(() => '── everything works again');
    world.heal();
    const endMs = scheduler.nowMs + SETTLE_MS;
    let missing: string | undefined = 'nothing looked at';
    while (missing !== undefined) {
      await until(LOOK_EVERY_MS);
      missing = unsettled(world);
      if (missing !== undefined && scheduler.nowMs > endMs) throw new Broken(missing);
    }
    world.stop();
    await everythingComesBack(world);
    return { ...acts, ...covered(world) };
  } finally {
    world.stop();
  }
}

async function perform(world: World, what: Act, at: number): Promise<void> {
  world.judge.tell(() => `── ${JSON.stringify(what)}`);
  const { network, servers, relayIds } = world;
  switch (what.act) {
    case 'lease':
      world.devices[what.device % world.devices.length]!.lease(
        `${at.toString(16).padStart(32, '0')}`,
        what.leaseMs,
        what.both,
      );
      return;
    case 'extend':
      world.devices[what.device % world.devices.length]!.extend(what.which, 60_000);
      return;
    case 'free':
      world.devices[what.device % world.devices.length]!.free(what.which);
      return;
    case 'cut': {
      const links = linksOf(world);
      network.cut(links[what.link % links.length]!, what.silent ? 'silent' : 'refused');
      return;
    }
    case 'isolate': {
      const relay = relayIds[what.relay % relayIds.length]!;
      const links = linksOf(world).filter((link) => link.split(' ').includes(relay));
      for (const link of links) network.cut(link, 'silent');
      return;
    }
    case 'mend':
      for (const link of [...network.cuts.keys()]) network.mend(link);
      return;
    case 'pause': {
      const hosts = [...world.hosts.values()];
      hosts[what.host % hosts.length]!.pause(what.forMs);
      return;
    }
    case 'stall':
      servers.stall(servers.list[what.server % servers.list.length]!, what.forMs);
      return;
    case 'restart':
      world.start(relayIds[what.relay % relayIds.length]!, { pinned: what.pinned });
      return;
    case 'lose':
      world.lose(relayIds[what.relay % relayIds.length]!);
      return;
    case 'hand-over': {
      const anchor = world.anchors[what.anchor % world.anchors.length]!;
      const owner = [...world.relays.values()].find(({ ownership }) => ownership.owned().has(anchor));
      const others = relayIds.filter((id) => id !== owner?.id);
      owner?.node.handOver(anchor, others[what.to % others.length]!).catch(() => undefined);
      return;
    }
    case 'fail-over': {
      const hosts = [...world.hosts.keys()].filter((_, bit) => (what.deceived >> bit) & 1);
      await world.cutReplica(what.server);
      world.scheduler.after(what.lagMs, () => world.failOver(what.server, hosts, what.forMs, what.skewMs));
      return;
    }
    default:
      what satisfies never;
  }
}

/** Relays with each server and with each other, doors with each server. */
function linksOf({ relayIds, servers }: World): string[] {
  const ids = servers.list.map(({ id }) => id);
  return [
    ...relayIds.flatMap((relay) => ids.map((id) => linkOf(relay, id))),
    ...relayIds.flatMap((one, at) => relayIds.slice(at + 1).map((other) => linkOf(one, other))),
    ...relayIds.map((relay) => linkOf(relay, 's0')),
    ...ids.map((id) => linkOf('s0', id)),
  ];
}

function covered(world: World): Coverage {
  const { ledger, counts, devices } = world;
  return {
    ...ledger.counts,
    ...counts,
    acknowledged: devices.reduce((sum, { answers }) => sum + answers.size, 0),
    retries: devices.reduce((sum, { retries }) => sum + retries, 0),
    steps: world.scheduler.steps,
    simulatedMs: Math.round(world.scheduler.nowMs),
  };
}
