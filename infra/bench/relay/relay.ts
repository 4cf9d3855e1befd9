/** `npm run bench -- relay`: packets through one relay, ours and others', on the same two cores in the same minutes. */
import type { Lab } from '../../lab/lab.ts';
import { type Benchmark, type BenchOptions, chosenCases, type Outcome } from '../benchmark.ts';
import { judged, type Ratio, unmeasured, worstRatio } from '../goals.ts';
import { type Goal, Results } from '../record.ts';
import { alternate, type Measurement } from '../rounds.ts';
import { readable } from '../statistics.ts';
import { buildClosedLoop, type ClosedLoop } from './closed-loop.ts';
import {
  ALL_LOOP_CASES,
  BARE,
  FLIP_CASE,
  FORWARDING,
  leaseCases,
  loadPrograms,
  loopCases,
  loopMeasurements,
  mostLeases,
  NATIVE,
  relayAlone,
} from './loop-cases.ts';
import { MIXED_CASES, mixedMeasurements } from './mixed-rig.ts';
import {
  boundBySource,
  COTURN,
  OPEN_LOOP_CASES,
  OPEN_LOOP_NOTES,
  openLoopGoal,
  openLoopMeasurements,
  PER_CORE,
} from './open-loop.ts';
import { NS, NS_CASES, nsMeasurements } from './program-time.ts';
import { buildRig, type Rig, SESSIONS } from './rig.ts';
import type { Loaded } from './xdp-host.ts';

const GOALS = {
  bare: { id: 'relay.xdp_vs_bare', op: '>=', goal: 0.7 },
  kernel: { id: 'relay.xdp_vs_kernel', op: '>=', goal: 2 },
  coturn: { id: 'relay.xdp_vs_coturn', op: '>=', goal: 10 },
  cores: { id: 'relay.cores', op: '>=', goal: 1.6 },
  scale: { id: 'relay.scale_1m', op: '>=', goal: 0.75 },
  down: { id: 'relay.ns_downlink', op: '<=', goal: 200 },
  up: { id: 'relay.ns_uplink', op: '<=', goal: 200 },
  bytes: { id: 'relay.bytes_per_session', op: '<=', goal: 800 },
  wrong: { id: 'relay.rebind_wrong_path', op: '<=', goal: 0 },
} as const;
const ROUNDS = { full: { warmUps: 1, counted: 5 }, quick: { warmUps: 0, counted: 2 } } as const;
/** A quick run takes these, which show a regression anywhere, unless it is told which. */
const QUICK_CASES = [
  'esp-100B-down',
  'esp-100B-up',
  'udp-1400B-up',
  'loop-esp-100B-1-core',
  'loop-esp-100B-2-cores',
  'leases-1',
  'leases-1k',
  'ns-esp-100B',
  FLIP_CASE,
  ...Object.values(MIXED_CASES),
];
const IN_CLOSED_LOOP: readonly string[] = [...ALL_LOOP_CASES, ...NS_CASES];

export const relay: Benchmark = {
  name: 'relay',
  summary:
    'packets/s through one relay: Mooring in XDP and in userspace, coturn, the kernel, a bare redirect',
  cases: [...OPEN_LOOP_CASES, ...ALL_LOOP_CASES, ...NS_CASES, ...Object.values(MIXED_CASES)],
  run: runRelay,
};

async function runRelay(lab: Lab, { only, quick, say }: BenchOptions): Promise<Outcome> {
  const cases = quick && only === undefined ? QUICK_CASES : relay.cases;
  const chosen = chosenCases({ name: relay.name, cases }, only);
  const results = new Results();
  const open = chosen.some((name) => OPEN_LOOP_CASES.includes(name)) ? await openLoop(lab, say) : null;
  const closed = chosen.some((name) => IN_CLOSED_LOOP.includes(name))
    ? await orReason(() => closedLoop(lab, chosen, quick, say))
    : null;
  const loop = closed !== null && 'loop' in closed ? closed.loop : null;
  const openLoopRuns = open === null ? [] : openLoopMeasurements(open, chosen, quick);
  const mixed = await orReason(() => mixedMeasurements(lab, chosen, quick));
  const measurements = [
    ...openLoopRuns,
    ...(loop === null ? [] : loopMeasurements(loop, chosen, quick)),
    ...(loop === null ? [] : await nsMeasurements(loop, chosen, quick)),
    ...('reason' in mixed ? [] : mixed),
  ];
  const failed: string[] = [];
  await alternate(
    measurements.map((measurement) => sparing(measurement, failed, say)),
    quick ? ROUNDS.quick : ROUNDS.full,
    (measurement, figures) => {
      results.add(measurement.system, measurement.case, figures);
      if (Object.keys(figures).length > 0) say(line(measurement, figures));
    },
    say,
  );
  const bytes = bytesPerSession(closed !== null && 'programs' in closed ? closed.programs : undefined);
  if (bytes !== undefined) results.add(NATIVE, bytes.name, { 'octets/session': bytes.octets });
  return {
    results: results.all(),
    goals: [
      ...(closed === null ? [] : closedLoopGoals(results, chosen, quick, open, bytes)),
      ...(open === null ? [] : [openLoopGoal(open, results, chosen)]),
    ],
    notes: [
      ...failed.map((text) => `not counted: ${text}`),
      ...(open === null ? [] : [...OPEN_LOOP_NOTES, ...boundBySource(results, openLoopRuns)]),
      ...(open !== null && 'reason' in open.coturn ? [open.coturn.reason] : []),
      ...(loop === null ? [] : CLOSED_LOOP_NOTES),
      ...(closed !== null && 'reason' in closed ? [`closed loop: ${closed.reason}`] : []),
      ...('reason' in mixed
        ? [`whole relay in XDP: ${mixed.reason}`]
        : mixed.length === 0
          ? []
          : MIXED_NOTES),
    ],
  };
}

/** A repetition that failed is left out and named: it must not cost those of a quarter of an hour. */
function sparing(measurement: Measurement, failed: string[], say: (text: string) => void): Measurement {
  return {
    ...measurement,
    async run() {
      try {
        return await measurement.run();
      } catch (error) {
        const why = error instanceof Error ? error.message.split('\n')[0] : String(error);
        failed.push(`one repetition of ${measurement.case}, ${measurement.system}: ${why}`);
        say(failed.at(-1)!);
        return {};
      }
    },
  };
}

const CLOSED_LOOP_NOTES = [
  'loop-…: XDP programs at both ends turn 128 packets round for as long as it is measured, so all cores used are busy with ends and relay; packets/s are those that came out of the relay, both ways together. Every relay has the same ends: those without a tunnel are given the datagrams that Mooring makes, whose tags the device’s end makes anew',
  'everything is on: windows, metering, policing, deadlines; 1,000 leases, as many of them in use as packets circle, unless the case says otherwise',
  'leases-1m-by-lot: each packet belongs to another lease than the one before, drawn among all',
  'ns-…: BPF_PROG_TEST_RUN with warm caches, the time for restoring the frame subtracted',
];

const MIXED_NOTES = [
  `${MIXED_CASES.latency}: the whole relay; 40,000 ESP packets/s that XDP forwards (fast) and 10,000 UDP packets/s of a lease with a policy that only the userspace engine holds (slow), 200 octets each; one way from the peer’s system call, in batches of 8, to the device’s interface`,
  `${MIXED_CASES.rebinds}: 128 devices, all in one process, each moving again as soon as a move is complete: bind, challenge, proof, sync, over UDP`,
];

async function openLoop(lab: Lab, say: (text: string) => void): Promise<Rig> {
  say(`open loop: ${SESSIONS} sessions on the relay, one of them carries the traffic`);
  return buildRig(lab);
}

/** A machine without XDP, or without clang, measures the rest and says so. */
async function orReason<Result>(build: () => Promise<Result>): Promise<Result | { readonly reason: string }> {
  try {
    return await build();
  } catch (error) {
    return { reason: error instanceof Error ? error.message : String(error) };
  }
}

interface Closed {
  readonly loop: ClosedLoop;
  readonly programs: ReadonlyMap<number, Loaded>;
}

async function closedLoop(
  lab: Lab,
  chosen: readonly string[],
  quick: boolean,
  say: (text: string) => void,
): Promise<Closed> {
  say('closed loop: packets turned round at both ends');
  const loop = await buildClosedLoop(lab, mostLeases(chosen, quick));
  return { loop, programs: await loadPrograms(loop, chosen, quick, say) };
}

function line({ system, case: name }: Measurement, figures: Readonly<Record<string, number>>): string {
  const text = Object.entries(figures).map(([metric, value]) => `${readable(value)} ${metric}`);
  return `${name.padEnd(22)} ${system.padEnd(20)} ${text.join(', ')}`;
}

function closedLoopGoals(
  results: Results,
  chosen: readonly string[],
  quick: boolean,
  open: Rig | null,
  bytes: ReturnType<typeof bytesPerSession>,
): Goal[] {
  const rate = (system: string, name: string) => results.median(system, name, 'packets/s');
  const measured = (names: readonly string[]) => names.filter((name) => chosen.includes(name));
  const against = (rival: string, names: readonly string[]): Ratio[] =>
    measured(names).map((name) => ({ name, ours: rate(NATIVE, name), theirs: rate(rival, name) }));
  const ns = (metric: string) => results.median(NATIVE, 'ns-esp-100B', metric);
  const leases = leaseCases(chosen, quick).map(({ name }) => name);
  return [
    worstRatio(GOALS.bare, against(BARE, loopCases('esp'))),
    worstRatio(GOALS.kernel, against(FORWARDING, loopCases('esp'))),
    coturnGoal(results, chosen, open),
    worstRatio(
      GOALS.cores,
      measured(loopCases('esp', 2)).map((name) => ({
        name,
        ours: rate(NATIVE, name),
        theirs: rate(NATIVE, name.replace('2-cores', '1-core')),
      })),
    ),
    leases.includes('leases-1m')
      ? worstRatio(GOALS.scale, [
          { name: 'leases-1m', ours: rate(NATIVE, 'leases-1m'), theirs: rate(NATIVE, 'leases-1') },
        ])
      : unmeasured(GOALS.scale, 'a million leases take longer to install than this run may'),
    ...(
      [
        [GOALS.down, NS.downlink],
        [GOALS.up, NS.uplink],
      ] as const
    ).map(([goal, metric]) => {
      const value = ns(metric);
      return value === undefined ? unmeasured(goal, 'ns-esp-100B was not measured') : judged(goal, value);
    }),
    flipGoal(results),
    bytesGoal(bytes),
  ];
}

/** Both by what the relay itself needs of a core. */
function coturnGoal(results: Results, chosen: readonly string[], open: Rig | null): Goal {
  const coturn = OPEN_LOOP_CASES.filter((name) => name.startsWith('esp-100B'))
    .map((name) => results.median(COTURN, name, PER_CORE))
    .filter((value) => value !== undefined);
  const name = 'loop-esp-100B-1-core';
  const ours = relayAlone(results, NATIVE, name);
  if (coturn.length === 0 || !chosen.includes(name) || ours === undefined) {
    const why =
      open !== null && 'reason' in open.coturn ? open.coturn.reason : 'coturn or the loop was not measured';
    return unmeasured(GOALS.coturn, why);
  }
  const whole = results.median(NATIVE, name, 'packets/s')!;
  const best = Math.max(...coturn);
  return judged(
    GOALS.coturn,
    ours / best,
    `${readable(ours)} against ${readable(best)} packets/s a core; with both ends on the same core ${readable(whole)}`,
  );
}

function flipGoal(results: Results): Goal {
  const found = results.all().find((result) => result.case === FLIP_CASE && result.metric === 'wrong path');
  const flips = results.median(NATIVE, FLIP_CASE, 'flips/s');
  if (found === undefined || flips === undefined) {
    return unmeasured(GOALS.wrong, `${FLIP_CASE} was not measured`);
  }
  return judged(GOALS.wrong, found.spread[1], `at ${readable(flips)} flips a second`);
}

/** Of the largest program: what is shared by all sessions weighs least there. */
function bytesPerSession(programs: ReadonlyMap<number, Loaded> | undefined) {
  const leases = Math.max(0, ...(programs?.keys() ?? []));
  const loaded = programs?.get(leases);
  if (loaded === undefined) return undefined;
  return { name: `octets-${leases}-leases`, octets: loaded.kernelBytes / leases };
}

function bytesGoal(bytes: ReturnType<typeof bytesPerSession>): Goal {
  return bytes === undefined
    ? unmeasured(GOALS.bytes, 'no program was loaded')
    : judged(GOALS.bytes, bytes.octets, bytes.name);
}
