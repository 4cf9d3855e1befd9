/** The cases of the closed loop: relays in the kernel, by traffic, cores and leases. */
import type { Results } from '../record.ts';
import type { Measurement } from '../rounds.ts';
import { type ClosedLoop, type LoopRun, loadProgram, type Middle, runLoop } from './closed-loop.ts';
import type { Traffic } from './packets.ts';
import type { Loaded } from './xdp-host.ts';

export const NATIVE = 'mooring-xdp';
export const GENERIC = 'mooring-xdp-generic';
export const BARE = 'xdp-redirect';
export const FORWARDING = 'kernel-forwarding';
export const ENDS = 'ends-alone';

interface LoopCase {
  readonly name: string;
  readonly traffic: Traffic;
  readonly octets: number;
  readonly cores: 1 | 2;
}

export const LOOP_CASES: readonly LoopCase[] = (['esp', 'udp'] as const).flatMap((traffic) =>
  [100, 1_400].flatMap((octets) =>
    ([1, 2] as const).map((cores) => ({
      name: `loop-${traffic}-${octets}B-${cores === 1 ? '1-core' : '2-cores'}`,
      traffic,
      octets,
      cores,
    })),
  ),
);
/** Of the cases with a traffic and so many cores. */
export function loopCases(traffic: Traffic, cores?: 1 | 2): string[] {
  return LOOP_CASES.filter((of) => of.traffic === traffic && (cores === undefined || of.cores === cores)).map(
    ({ name }) => name,
  );
}

interface LeaseCase {
  readonly name: string;
  readonly leases: number;
  /** Every packet belongs to another lease, drawn among all: no cache holds what it needs. */
  readonly byLot: boolean;
}

export const LEASE_CASES: readonly LeaseCase[] = [
  { name: 'leases-1', leases: 1, byLot: false },
  { name: 'leases-1k', leases: 1_000, byLot: false },
  { name: 'leases-100k', leases: 100_000, byLot: false },
  { name: 'leases-1m', leases: 1_000_000, byLot: false },
  { name: 'leases-1m-by-lot', leases: 1_000_000, byLot: true },
];
/** Loading these takes longer than a quick run may. */
const QUICK_LEASES = 1_000;

export const FLIP_CASE = 'path-flips';
const FLIPS = { sessions: 8, perSecond: 50_000 } as const;
/** The program of all other cases. */
export const MAIN_LEASES = 1_000;

const TIMES = {
  full: { settleMs: 300, windowMs: 1_200 },
  quick: { settleMs: 100, windowMs: 300 },
} as const;

export const ALL_LOOP_CASES = [
  ...LOOP_CASES.map(({ name }) => name),
  ...LEASE_CASES.map(({ name }) => name),
  FLIP_CASE,
];

/** The lease cases that are measured; the others are too large for a quick run. */
export function leaseCases(chosen: readonly string[], quick: boolean): LeaseCase[] {
  return LEASE_CASES.filter(
    ({ name, leases }) => chosen.includes(name) && (!quick || leases <= QUICK_LEASES),
  );
}

/** Leases of the largest case that is measured. */
export function mostLeases(chosen: readonly string[], quick: boolean): number {
  return Math.max(MAIN_LEASES, ...leaseCases(chosen, quick).map(({ leases }) => leases));
}

/** Loads the programs that the chosen cases need, and says what they take. */
export async function loadPrograms(
  loop: ClosedLoop,
  chosen: readonly string[],
  quick: boolean,
  say: (text: string) => void,
): Promise<Map<number, Loaded>> {
  const wanted = new Set([MAIN_LEASES, ...leaseCases(chosen, quick).map(({ leases }) => leases)]);
  const loaded = new Map<number, Loaded>();
  for (const leases of [...wanted].sort((a, b) => a - b)) {
    const done = await loadProgram(loop, nameOf(leases), leases);
    const perSession = Math.round(done.kernelBytes / leases);
    say(`the program with ${leases} leases: ${Math.round(done.tookMs)} ms, ${perSession} octets a session`);
    loaded.set(leases, done);
  }
  return loaded;
}

const nameOf = (leases: number): string => `leases-${leases}`;

export function loopMeasurements(loop: ClosedLoop, chosen: readonly string[], quick: boolean): Measurement[] {
  const times = quick ? TIMES.quick : TIMES.full;
  const ours = (mode: 'native' | 'generic', leases: number): Middle => ({
    kind: 'mooring',
    name: nameOf(leases),
    mode,
  });
  const measurement = (
    system: string,
    name: string,
    run: Omit<LoopRun, 'settleMs' | 'windowMs'>,
  ): Measurement => ({
    system,
    case: name,
    run: async () => ({ 'packets/s': (await runLoop(loop, { ...run, ...times })).packetsPerSecond }),
  });
  const byTraffic = LOOP_CASES.filter(({ name }) => chosen.includes(name)).flatMap(({ name, ...of }) => {
    const run = { ...of, leases: MAIN_LEASES };
    const systems: [string, Middle | null][] = [
      [NATIVE, ours('native', MAIN_LEASES)],
      [BARE, { kind: 'bare' }],
      [FORWARDING, { kind: 'kernel' }],
      [GENERIC, ours('generic', MAIN_LEASES)],
      ...(of.cores === 1 ? [[ENDS, null] as [string, null]] : []),
    ];
    return systems.map(([system, middle]) => measurement(system, name, { ...run, middle }));
  });
  const byLeases = leaseCases(chosen, quick).map(({ name, leases, byLot }) =>
    measurement(NATIVE, name, {
      middle: ours('native', leases),
      traffic: 'esp',
      octets: 100,
      cores: 1,
      leases,
      byLot,
    }),
  );
  const flips: Measurement[] = chosen.includes(FLIP_CASE)
    ? [{ system: NATIVE, case: FLIP_CASE, run: () => flip(loop, ours('native', MAIN_LEASES), times) }]
    : [];
  return [...byTraffic, ...byLeases, ...flips];
}

async function flip(loop: ClosedLoop, middle: Middle, times: { settleMs: number; windowMs: number }) {
  const forMs = times.settleMs + times.windowMs;
  let flips = 0;
  const { packetsPerSecond, wrongPath } = await runLoop(loop, {
    ...times,
    middle,
    traffic: 'esp',
    octets: 100,
    cores: 1,
    leases: FLIPS.sessions,
    async meanwhile() {
      const done = await loop.relay.request({ op: 'flip', name: nameOf(MAIN_LEASES), ...FLIPS, forMs });
      flips = (done as { flips: number }).flips;
    },
  });
  return { 'packets/s': packetsPerSecond, 'flips/s': flips / (forMs / 1_000), 'wrong path': wrongPath };
}

/**
 * Packets that one core relays in a second when it does nothing else: of the time that a packet takes in the loop on one
 * core, what the ends alone take is not the relay's.
 */
export function relayAlone(results: Results, system: string, caseName: string): number | undefined {
  const [loop, ends] = [system, ENDS].map((name) => results.median(name, caseName, 'packets/s'));
  if (loop === undefined || ends === undefined) return undefined;
  return 1 / (1 / loop - 1 / ends);
}
