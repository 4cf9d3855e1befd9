import fc from 'fast-check';
import { EMPTIED_CLAIM_MS, MOST_DECEIVED_MS, PROMISED_MS, QUARANTINE_MS, type Shape } from './shape.ts';

/** An even number: whoever owns an anchor then; an odd one: a relay by its place. */
export type Which = number;

export type Act =
  | { readonly act: 'lease'; readonly device: number; readonly leaseMs: number; readonly both: boolean }
  | { readonly act: 'extend' | 'free'; readonly device: number; readonly which: number }
  | { readonly act: 'cut'; readonly link: number; readonly silent: boolean }
  | { readonly act: 'isolate'; readonly relay: Which }
  /** From the registry alone. */
  | { readonly act: 'part'; readonly relay: Which }
  | { readonly act: 'mend' }
  | { readonly act: 'pause'; readonly host: number; readonly forMs: number }
  | { readonly act: 'stall'; readonly server: number; readonly forMs: number }
  | { readonly act: 'restart'; readonly relay: Which; readonly pinned: boolean }
  | { readonly act: 'lose'; readonly relay: Which; readonly withDisk: boolean }
  | { readonly act: 'hand-over'; readonly anchor: number; readonly to: number }
  | {
      readonly act: 'fail-over';
      readonly server: number;
      /** For so long before, the replica heard nothing. */
      readonly lagMs: number;
      readonly deceived: number;
      readonly forMs: number;
      readonly skewMs: number;
    }
  /** The server starts anew with nothing, and everybody can speak to it; so much later a node says again what was declared. */
  | { readonly act: 'empty'; readonly server: number; readonly declaredMs: number };

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
      leaseMs: fc.constantFrom(60_000, 60_000, 1_200, 300, 300),
      both: fc.boolean(),
    }),
  },
  { weight: 4, arbitrary: act({ act: fc.constantFrom('extend', 'free'), device: small, which: small }) },
  { weight: 3, arbitrary: act({ act: is('cut'), link: fc.nat(20), silent: fc.boolean() }) },
  { weight: 1, arbitrary: act({ act: fc.constantFrom('isolate', 'part'), relay: small }) },
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
  { weight: 1, arbitrary: act({ act: is('lose'), relay: small, withDisk: fc.boolean() }) },
  { weight: 4, arbitrary: act({ act: is('hand-over'), anchor: small, to: small }) },
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

/** Most things happen while something else has not ended. */
const gap: fc.Arbitrary<number> = fc.oneof(
  { weight: 3, arbitrary: fc.nat(40) },
  { weight: 2, arbitrary: fc.nat(350) },
);
const step: fc.Arbitrary<Step> = fc.record({ afterMs: gap, what: anyAct });

/** What was acknowledged while no replica heard of it, and then the fail-over. */
const unheard: fc.Arbitrary<Step[]> = fc
  .record({
    ...{ lagMs: fc.integer({ min: 120, max: 500 }), device: small, end: fc.boolean(), server: small },
    ...{ deceived: fc.oneof(fc.constant(0), fc.nat(63)), forMs: fc.nat(MOST_DECEIVED_MS) },
  })
  .map(({ lagMs, device, end, server, deceived, forMs }) => [
    { afterMs: 0, what: { act: 'fail-over', server, lagMs, deceived, forMs, skewMs: 0 } },
    { afterMs: 5, what: { act: 'lease', device, leaseMs: 60_000, both: false } },
    { afterMs: lagMs / 2, what: { act: end ? 'free' : 'extend', device: device + 1, which: 0 } },
  ]);

/** Somebody, an owner perhaps, begins anew while a quarantine lasts, and what was granted last is lost there. */
const begunAnew: fc.Arbitrary<Step[]> = fc
  .record({
    ...{ server: small, device: small, lagMs: fc.integer({ min: 30, max: 200 }), deceived: fc.nat(63) },
    ...{ forMs: fc.nat(MOST_DECEIVED_MS), relay: fc.oneof(fc.constantFrom(0, 2), small) },
    ...{ pinned: fc.boolean(), afterMs: fc.nat(600), next: step },
  })
  .map(({ server, device, lagMs, deceived, forMs, relay, pinned, afterMs, next }) => [
    { afterMs: 0, what: { act: 'fail-over', server, lagMs, deceived, forMs, skewMs: 0 } },
    { afterMs: 5, what: { act: 'lease', device, leaseMs: 60_000, both: false } },
    { afterMs: lagMs + afterMs, what: { act: 'restart', relay, pinned } },
    next,
  ]);

/** An owner that is away for longer than its claim lasts. */
const outlasted: fc.Arbitrary<Step[]> = fc
  .record({
    ...{ how: fc.constantFrom('lose', 'isolate'), relay: fc.constantFrom(0, 2) },
    ...{ forMs: fc.integer({ min: 600, max: 1_000 }), what: anyAct, withDisk: fc.boolean() },
  })
  .map(({ how, relay, forMs, what, withDisk }) => [
    { afterMs: 0, what: { act: how, relay, withDisk } as Act },
    { afterMs: forMs, what },
  ]);

/** A relay that starts while the registry is away, for it alone or for all, and comes back to it sooner or later. */
const carriedOn: fc.Arbitrary<Step[]> = fc
  .record({
    ...{ relay: fc.constantFrom(0, 0, 2), all: fc.boolean(), lost: fc.boolean(), pinned: fc.boolean() },
    ...{ afterMs: fc.nat(300), next: step, mendMs: fc.nat(1_200) },
  })
  .map(({ relay, all, lost, pinned, afterMs, next, mendMs }) => {
    const others: Step[] = (all ? [1, 3] : []).map((one) => ({
      afterMs: 0,
      what: { act: 'part', relay: one },
    }));
    return [
      { afterMs: 0, what: { act: 'part', relay } },
      ...others,
      ...(lost ? [{ afterMs: 0, what: { act: 'lose', relay, withDisk: false } } as Step] : []),
      { afterMs, what: { act: 'restart', relay, pinned: pinned && !lost } },
      next,
      { afterMs: mendMs, what: { act: 'mend' } },
    ];
  });

/** A fail-over that meets a relay just when it takes its anchor up: what a former start may have promised has run out then. */
const caught: fc.Arbitrary<Step[]> = fc
  .record({
    ...{ relay: fc.constantFrom(0, 2), pinned: fc.boolean(), sinceMs: fc.nat(25) },
    ...{ server: small, deceived: fc.oneof(fc.constant(0), fc.nat(63)), forMs: fc.nat(MOST_DECEIVED_MS) },
  })
  .map(({ relay, pinned, sinceMs, server, deceived, forMs }) => [
    { afterMs: 0, what: { act: 'restart', relay, pinned } },
    {
      afterMs: PROMISED_MS + sinceMs,
      what: { act: 'fail-over', server, lagMs: 0, deceived, forMs, skewMs: 0 },
    },
  ]);

/** Several steps that belong together, and how often each is drawn. */
const SCENES = {
  single: { weight: 8, arbitrary: step.map((one) => [one]) },
  unheard: { weight: 2, arbitrary: unheard },
  begunAnew: { weight: 1, arbitrary: begunAnew },
  outlasted: { weight: 2, arbitrary: outlasted },
  carriedOn: { weight: 1, arbitrary: carriedOn },
  caught: { weight: 1, arbitrary: caught },
};

export type Scene = keyof typeof SCENES;

/** Schedules of all that may happen; every other scene is `most`, if one is named. */
export function schedulesOf(most?: Scene): fc.Arbitrary<Schedule> {
  const all = Object.values(SCENES);
  const weight = all.reduce((sum, scene) => sum + scene.weight, 0);
  const scene = fc.oneof(...all, ...(most === undefined ? [] : [{ ...SCENES[most], weight }]));
  return fc.record({
    shape,
    steps: fc.array(scene, { minLength: 2, maxLength: 6, size: 'max' }).map((scenes) => scenes.flat()),
  });
}

export const schedules = schedulesOf();

/** A quarantine, and before it the time in which the registry is told that it knows less than it did. */
const HEARD_MS = QUARANTINE_MS + EMPTIED_CLAIM_MS;

const gentleStep: fc.Arbitrary<Step> = fc.record({
  afterMs: gap,
  what: fc.oneof(
    {
      weight: 4,
      arbitrary: act({
        act: is('lease'),
        device: small,
        leaseMs: fc.constantFrom(60_000, 60_000, 1_200),
        both: fc.boolean(),
      }),
    },
    { weight: 3, arbitrary: act({ act: fc.constantFrom('extend', 'free'), device: small, which: small }) },
    { weight: 2, arbitrary: act({ act: is('hand-over'), anchor: small, to: small }) },
    { weight: 1, arbitrary: act({ act: is('restart'), relay: small, pinned: fc.boolean() }) },
    { weight: 1, arbitrary: act({ act: is('lose'), relay: small, withDisk: fc.boolean() }) },
  ),
});

/** A registry that comes back empty while leases are taken and given back; what comes then waits until it has been told what was. */
const emptied: fc.Arbitrary<Step[]> = fc
  .record({
    ...{ before: fc.array(gentleStep, { maxLength: 4 }), afterMs: gap, server: small },
    ...{
      declaredMs: fc.nat(600),
      device: small,
      heardMs: fc.integer({ min: HEARD_MS, max: HEARD_MS + 600 }),
    },
  })
  .map(({ before, afterMs, server, declaredMs, device, heardMs }) => [
    ...before,
    { afterMs, what: { act: 'empty', server, declaredMs } },
    { afterMs: 5, what: { act: 'lease', device, leaseMs: 60_000, both: false } },
    { afterMs: heardMs, what: { act: 'extend', device, which: 0 } },
  ]);

/** Schedules in which the registry is emptied, and nobody is kept from telling it what was. */
export const emptyings: fc.Arbitrary<Schedule> = fc.record({
  shape: shape.map((one) => ({ ...one, weather: { lost: 0, late: 0, twice: 0 } })),
  steps: fc.array(emptied, { minLength: 1, maxLength: 2 }).map((scenes) => scenes.flat()),
});
