/** `npm run bench -- registry`: leases a second, beside a DHCP server on the same machine in the same minutes. */
import type { Granted } from '../../../src/registry/registry.ts';
import type { Lab } from '../../lab/lab.ts';
import { type Benchmark, type BenchOptions, chosenCases, type Outcome } from '../benchmark.ts';
import { judged, unmeasured } from '../goals.ts';
import { Results } from '../record.ts';
import { alternate, type Measurement } from '../rounds.ts';
import { type Kea, startKea } from './kea.ts';
import { closedLoop, openLoop, type Taken } from './load.ts';
import { type BenchRedis, startBenchRedis } from './server.ts';
import { fill, openStore, type Store } from './store.ts';

const STORE = 'mooring-store';
const KEA = 'kea-dhcp4';
const RATE = 'operations/s';
const CASES = ['grant', 'extend', 'memory'] as const;
/** Operations under way at once. */
const WIDTH = 200;
const SIZES = { full: [10_000, 100_000, 1_000_000], quick: [10_000] } as const;
const TIMES = {
  full: { rounds: { warmUps: 1, counted: 5 }, windowMs: 4_000, keaS: 3 },
  quick: { rounds: { warmUps: 0, counted: 2 }, windowMs: 1_000, keaS: 1 },
} as const;
/** Leases that extensions go round on. */
const EXTENDED = 10_000;

export const registry: Benchmark = {
  name: 'registry',
  summary: 'leases/s at the store and memory per lease; Kea DHCPv4 in the same run',
  cases: [...CASES],
  run: runRegistry,
};

async function runRegistry(lab: Lab, { only, quick, say }: BenchOptions): Promise<Outcome> {
  const cases = chosenCases(registry, only);
  const times = quick ? TIMES.quick : TIMES.full;
  const results = new Results();
  const notes: string[] = [];
  const host = await lab.namespace('registry');
  const redis = await startBenchRedis(lab, host, 'bench-redis');
  const store = await openStore(redis.socket);
  const kea = await startKea(lab).catch((error: Error) => {
    notes.push(`Kea was not measured: ${error.message.split('\n')[0]}`);
    return null;
  });
  try {
    const measurements = [
      ...(cases.includes('grant') ? grants(store, kea, times) : []),
      ...(cases.includes('extend') ? await extensions(store, times) : []),
    ];
    await alternate(
      measurements,
      times.rounds,
      ({ system, case: name }, figures) => {
        results.add(system, name, figures);
        say(`${name.padEnd(8)} ${system.padEnd(14)} ${Math.round(figures[RATE]!)} a second`);
      },
      say,
    );
    if (cases.includes('memory')) await sizes(redis, store, quick ? SIZES.quick : SIZES.full, results, say);
  } finally {
    await store.close();
    await redis.close();
  }
  return { results: results.all(), goals: goals(results), notes: [...notes, ...NOTES] };
}

/** Full speed, then half of it: what somebody waits who comes when there is room. */
async function twice(operate: (n: number) => Promise<unknown>, windowMs: number) {
  let done = 0;
  const next = (): Promise<unknown> => {
    done += 1;
    return operate(done - 1);
  };
  const full = await closedLoop(WIDTH, windowMs, next);
  const half = await openLoop(full.perSecond / 2, windowMs, next);
  return { full, half, done };
}

function figures(full: Taken, half: Taken): Record<string, number> {
  return { [RATE]: full.perSecond, 'p50 ms at half load': half.p50Ms, 'p99 ms at half load': half.p99Ms };
}

function grants(store: Store, kea: Kea | null, times: { windowMs: number; keaS: number }): Measurement[] {
  let devices = 0;
  const ours: Measurement = {
    system: STORE,
    case: 'grant',
    async run() {
      await store.makeRoom(MOST_PER_SECOND * ((2 * times.windowMs) / 1000));
      const from = devices;
      const { full, half, done } = await twice((n) => store.grant(from + n), times.windowMs);
      devices += done;
      return figures(full, half);
    },
  };
  if (kea === null) return [ours];
  return [
    ours,
    { system: KEA, case: 'grant', run: async () => ({ [RATE]: await kea.capacity(times.keaS) }) },
  ];
}

/** Room is made for this many grants a second. */
const MOST_PER_SECOND = 25_000;

async function extensions(store: Store, { windowMs }: { windowMs: number }): Promise<Measurement[]> {
  await store.makeRoom(EXTENDED);
  const held = await fill(store, FIRST_EXTENDED, EXTENDED, () => true);
  return [
    {
      system: STORE,
      case: 'extend',
      async run() {
        const { full, half } = await twice((n) => store.extend(held[n % held.length]!), windowMs);
        return figures(full, half);
      },
    },
  ];
}

/** Devices of extensions are others than those of grants. */
const FIRST_EXTENDED = 1e9;

/** Memory per lease and the cost of an operation, at each size. */
async function sizes(
  redis: BenchRedis,
  store: Store,
  wanted: readonly number[],
  results: Results,
  say: (text: string) => void,
): Promise<void> {
  await redis.empty();
  const emptyOctets = await redis.memory();
  const few: Granted[] = [];
  let held = 0;
  for (const size of wanted) {
    await store.makeRoom(size - held + (MOST_PER_SECOND * SIZE_WINDOW_MS) / 1000);
    // Every tenth of the first thousands is extended at each size: others may be anywhere.
    few.push(...(await fill(store, held, size - held, (n) => n % 10 === 0 && few.length < PROBES)));
    held = size;
    const perLease = ((await redis.memory()) - emptyOctets) / size;
    const granted = await closedLoop(WIDTH, SIZE_WINDOW_MS, (n) => store.grant(2e9 + held * 10 + n));
    const extended = await closedLoop(WIDTH, SIZE_WINDOW_MS, (n) => store.extend(few[n % few.length]!));
    const name = `${size.toLocaleString('en-US')} leases`;
    results.add(STORE, name, {
      'octets per lease': perLease,
      'grant µs': 1e6 / granted.perSecond,
      'extend µs': 1e6 / extended.perSecond,
    });
    say(`${name}: ${Math.round(perLease)} octets each, ${Math.round(granted.perSecond)} grants/s`);
  }
}

const PROBES = 1_000;
const SIZE_WINDOW_MS = 2_000;

function goals(results: Results) {
  const rate = (system: string) => results.median(system, 'grant', RATE);
  const kea = rate(KEA);
  const ratio = (id: string, goal: number, ours: number | undefined) =>
    ours === undefined || kea === undefined
      ? unmeasured({ id, op: '>=', goal }, 'not measured on both sides')
      : judged({ id, op: '>=', goal }, ours / kea);
  const p99 = results.median(STORE, 'grant', 'p99 ms at half load');
  const at = (size: string, metric: string) => results.median(STORE, `${size} leases`, metric);
  const small = at('10,000', 'grant µs');
  const large = at('1,000,000', 'grant µs');
  const octets = ['10,000', '100,000', '1,000,000'].map((size) => at(size, 'octets per lease'));
  const largest = Math.max(...octets.filter((value) => value !== undefined));
  return [
    ratio('registry.store_grants_vs_kea', 1.5, rate(STORE)),
    p99 === undefined
      ? unmeasured({ id: 'registry.grant_p99_ms', op: '<=', goal: 5 }, 'grants were not measured')
      : judged({ id: 'registry.grant_p99_ms', op: '<=', goal: 5 }, p99, 'at the store'),
    small === undefined || large === undefined
      ? unmeasured({ id: 'registry.scale_1m', op: '<=', goal: 1.3 }, 'a full run fills a million leases')
      : judged({ id: 'registry.scale_1m', op: '<=', goal: 1.3 }, large / small, 'grants'),
    judged(
      { id: 'registry.bytes_per_lease', op: '<=', goal: 900 },
      largest,
      'the most of the sizes measured',
    ),
  ];
}

const NOTES = [
  'one process, one connection, one Redis with an append-only file written out every second; a grant is three scripts: intent and confirmation in the device’s slot, the lease in the anchor’s',
  'Kea: memory file, two threads, the highest rate of perfdhcp that loses at most one exchange in a hundred; a lease there is two exchanges over the network, here none',
];
