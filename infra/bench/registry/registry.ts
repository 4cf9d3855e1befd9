/** `npm run bench -- registry`: leases a second, beside a DHCP server on the same machine in the same minutes. */
import type { Lab, Namespace } from '../../lab/lab.ts';
import { cluster, standalone } from '../../lab/redis-shapes.ts';
import { type Benchmark, type BenchOptions, chosenCases, type Outcome } from '../benchmark.ts';
import { Results } from '../record.ts';
import { alternate, type Measurement } from '../rounds.ts';
import { type Door, startDoor } from './door.ts';
import { createFloor, type Floor } from './floor.ts';
import { type Kea, startKea } from './kea.ts';
import type { Taken } from './load.ts';
import { startBenchRedis } from './server.ts';
import { measureSizes } from './sizes.ts';
import type { Spent } from './spending.ts';
import { fill } from './store.ts';
import { fullAndHalf, overShape, overSocket, type Subject, WIDTH } from './subject.ts';
import { forecast, goals, P50, P99, PROGRAM_US, RATE, REDIS_US, SIZES, SYSTEM } from './verdict.ts';

const CASES = [
  'hello',
  'grant',
  'extend',
  'path-hint',
  'cluster-grant',
  'cluster-extend',
  'memory',
  'cluster-memory',
] as const;
type Case = (typeof CASES)[number];

interface Plan {
  readonly rounds: { readonly warmUps: number; readonly counted: number };
  /** At the store, at full and at half speed each. */
  readonly windowMs: number;
  readonly keaS: number;
  readonly hellos: number;
  /** At the door, at full speed; half as many at half speed. */
  readonly grants: number;
  readonly extensions: number;
  readonly floor: number;
  readonly sizes: readonly number[];
  readonly clusterSizes: readonly number[];
}

const FULL: Plan = {
  rounds: { warmUps: 1, counted: 5 },
  windowMs: 1_200,
  keaS: 2,
  hellos: 1_000,
  grants: 2_000,
  extensions: 5_000,
  floor: 50_000,
  sizes: SIZES,
  clusterSizes: SIZES.slice(0, 2),
};
const QUICK: Plan = {
  rounds: { warmUps: 0, counted: 2 },
  windowMs: 600,
  keaS: 1,
  hellos: 300,
  grants: 500,
  extensions: 1_000,
  floor: 10_000,
  sizes: SIZES.slice(0, 1),
  clusterSizes: SIZES.slice(0, 1),
};

/** Leases that extensions and hints go round on. */
const HELD = 5_000;
/** Room is made for this many grants a second. */
const MOST_PER_SECOND = 25_000;
/** Devices of those leases, and of grants: never the same. */
const FIRST_HOLDER = 1e9;
/** Sockets that stay open after a round. */
const STAYING = 2_000;

export const registry: Benchmark = {
  name: 'registry',
  summary: 'leases/s at the door and at the store, and memory per lease; Kea DHCPv4 in the same run',
  cases: [...CASES],
  run: runRegistry,
};

async function runRegistry(lab: Lab, { only, quick, say }: BenchOptions): Promise<Outcome> {
  const chosen = new Set(chosenCases(registry, only) as Case[]);
  const any = (...names: readonly Case[]) => names.some((name) => chosen.has(name));
  const plan = quick ? QUICK : FULL;
  const results = new Results();
  const notes: string[] = [];
  const undo: (() => Promise<void> | void)[] = [];
  try {
    const host = await lab.namespace('registry');
    const store = any('grant', 'extend', 'path-hint', 'memory') ? await startStore(lab, host, undo) : null;
    const kea = chosen.has('grant')
      ? await startKea(lab).catch((error: Error) => {
          notes.push(`Kea was not measured: ${error.message.split('\n')[0]}`);
          return null;
        })
      : null;
    const door = any('hello', 'grant', 'extend') ? await startProgram(lab, host, say) : null;
    const shapes = any('cluster-grant', 'cluster-extend', 'cluster-memory') ? await startShapes(undo) : [];
    const measurements = [
      ...(door === null ? [] : atTheDoor(door, plan)),
      ...(store === null ? [] : await atTheStore(store.subject, store.floor, plan)),
      ...(kea === null ? [] : [{ system: SYSTEM.kea, case: 'grant', run: () => keaGrants(kea, plan) }]),
      ...(await onShapes(shapes, plan)),
    ].filter((measurement) => chosen.has(measurement.case as Case));
    await alternate(
      measurements,
      plan.rounds,
      ({ system, case: name }, figures) => {
        results.add(system, name, figures);
        say(`${name.padEnd(14)} ${system.padEnd(26)} ${Math.round(figures[RATE]!)} a second`);
      },
      say,
    );
    const { counted } = plan.rounds;
    if (store !== null && chosen.has('memory'))
      await measureSizes(store.subject, plan.sizes, counted, results, say);
    for (const shape of chosen.has('cluster-memory') ? shapes : [])
      await measureSizes(shape, plan.clusterSizes, counted, results, say);
  } finally {
    for (const step of undo.reverse()) await step();
  }
  return { results: results.all(), goals: goals(results), notes: [...notes, ...NOTES, ...forecast(results)] };
}

async function startStore(lab: Lab, host: Namespace, undo: (() => Promise<void> | void)[]) {
  const redis = await startBenchRedis(lab, host, 'store-redis');
  undo.push(() => redis.close());
  const subject = await overSocket(SYSTEM.store, redis);
  undo.push(() => subject.close());
  return { subject, floor: await createFloor(lab, host, redis, WIDTH) };
}

async function startProgram(lab: Lab, host: Namespace, say: (text: string) => void): Promise<Door> {
  say('starting the program, and devices');
  return startDoor(lab, host, await startBenchRedis(lab, host, 'door-redis'));
}

/** The same over TCP on loopback: one server, and a cluster of three. */
async function startShapes(undo: (() => Promise<void> | void)[]): Promise<Subject[]> {
  const started: Subject[] = [];
  for (const [system, start] of [
    [SYSTEM.onePrimary, () => standalone()],
    [SYSTEM.threePrimaries, () => cluster({ primaries: 3, replicas: 0 })],
  ] as const) {
    const subject = await overShape(system, await start());
    undo.push(() => subject.close());
    started.push(subject);
  }
  return started;
}

function figures(full: Spent, half: Taken): Record<string, number> {
  return {
    [RATE]: full.perSecond,
    [P50]: half.p50Ms,
    [P99]: half.p99Ms,
    [PROGRAM_US]: full.programUs,
    [REDIS_US]: full.redisUs,
  };
}

async function keaGrants(kea: Kea, { keaS }: Plan) {
  return { [RATE]: await kea.capacity(keaS) };
}

/** End to end: devices with a socket each, the program, its relay and its Redis. */
function atTheDoor(door: Door, { hellos, grants, extensions }: Plan): Measurement[] {
  let waiting = 0;
  let holding = 0;
  const wait = async (devices: number) => {
    if (waiting < devices) await door.arrive(devices - waiting);
    waiting = Math.max(waiting, devices);
  };
  const lease = async (count: number, perSecond?: number) => {
    await wait(count);
    const pace = perSecond === undefined ? { width: WIDTH } : { perSecond };
    const taken = await door.lease(count, pace);
    waiting -= count;
    holding += count;
    return taken;
  };
  return [
    {
      system: SYSTEM.program,
      case: 'hello',
      async run() {
        const arrived = await door.arrive(hellos);
        waiting += hellos;
        return { [RATE]: arrived.perSecond, [PROGRAM_US]: arrived.programUs, [REDIS_US]: arrived.redisUs };
      },
    },
    {
      system: SYSTEM.program,
      case: 'grant',
      async run() {
        await wait(1.5 * grants);
        const full = await lease(grants);
        const half = await lease(grants / 2, full.perSecond / 2);
        await door.dismiss(STAYING);
        holding = Math.min(holding, STAYING);
        return figures(full, half);
      },
    },
    {
      system: SYSTEM.program,
      case: 'extend',
      async run() {
        if (holding < grants) await lease(grants - holding);
        const full = await door.extend(extensions, { width: WIDTH });
        const half = await door.extend(extensions / 2, { perSecond: full.perSecond / 2 });
        return figures(full, half);
      },
    },
  ];
}

async function atTheStore(subject: Subject, floor: Floor, plan: Plan): Promise<Measurement[]> {
  const { store } = subject;
  const { grant, extend, held } = await storeCases(subject, plan);
  let hints = 0;
  return [
    { system: SYSTEM.store, case: 'grant', run: grant },
    { system: SYSTEM.floor, case: 'grant', run: async () => ({ [RATE]: await floor.grant(plan.floor) }) },
    { system: SYSTEM.store, case: 'extend', run: extend },
    {
      system: SYSTEM.store,
      case: 'path-hint',
      async run() {
        const from = hints;
        const { full, half } = await fullAndHalf(subject, plan.windowMs, (n) => {
          hints = from + n;
          return store.hint(held[n % held.length]!, hints);
        });
        return figures(full, half);
      },
    },
    { system: SYSTEM.floor, case: 'path-hint', run: async () => ({ [RATE]: await floor.hint(plan.floor) }) },
  ];
}

async function onShapes(shapes: readonly Subject[], plan: Plan): Promise<Measurement[]> {
  const measurements: Measurement[] = [];
  for (const subject of shapes) {
    const { system } = subject;
    const { grant, extend } = await storeCases(subject, plan);
    measurements.push({ system, case: 'cluster-grant', run: grant });
    measurements.push({ system, case: 'cluster-extend', run: extend });
  }
  return measurements;
}

async function storeCases(subject: Subject, { windowMs }: Plan) {
  const { store } = subject;
  await store.makeRoom(HELD);
  const held = await fill(store, FIRST_HOLDER, HELD, () => true);
  let devices = 0;
  return {
    held,
    async grant() {
      await store.makeRoom((MOST_PER_SECOND * 2 * windowMs) / 1000);
      const from = devices;
      const { full, half } = await fullAndHalf(subject, windowMs, (n) => store.grant(from + n));
      devices += full.count + half.count;
      return figures(full, half);
    },
    async extend() {
      const { full, half } = await fullAndHalf(subject, windowMs, (n) =>
        store.extend(held[n % held.length]!),
      );
      return figures(full, half);
    },
  };
}

const NOTES = [
  'Redis with an append-only file written out every second (one for each system, on the same machine); whole addresses, each device its first lease, up to 200 operations under way; at half load operations begin at a steady rate, and count from when they were due',
  'mooring: end to end. The program as an operator runs it (signalling and relay with the userspace engine in one process, its supervisor beside it), devices in another process with a WebSocket and an ES256 key each, on loopback without TLS. hello: connect, access token and DPoP proof verified, registered. grant: answered when the lease is in Redis, installed in the packet engine and on the relay’s disk (O_DSYNC), the session’s key sealed to the device. extend: likewise',
  'mooring-store: the registry’s interface in one process over one connection, without door and relay: nothing is installed or activated. A grant is three scripts, intent and confirmation in the device’s slot and the lease in the anchor’s',
  'raw-lua: a script that writes a lease, its expiry and its event and nothing else, sent by redis-benchmark with as many under way over one connection: what Redis could do at most',
  'kea-dhcp4: memory file, two threads, the highest rate of perfdhcp that loses at most one exchange in a hundred; a lease is two exchanges of UDP. A lease is written to the file before it is acknowledged, not synced to the disk; nobody is authenticated',
  'octets a lease: with as many anchors as the leases need, each of which holds 4,096 at most',
  'program µs, Redis µs: processor time an operation at full speed, all threads; Redis’ includes writing the append-only file',
];
