import { type ChildProcess, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import pino from 'pino';
import { createAuthority } from '../../infra/lab/certificates.ts';
import type { RedisShape } from '../../infra/lab/redis-shapes.ts';
import { anchorKeys } from '../../src/registry/keys.ts';
import type { Registry } from '../../src/registry/registry.ts';
import { monotonicMs } from '../../src/telemetry/clock.ts';
import { programPath } from './bundle.ts';
import { type Entry, type FaultKind, factsOf, type Recorder, readHistory, recordIn } from './history.ts';
import { openSceneRegistry } from './open-registry.ts';
import { commandsWith, type PlantedFault } from './planted.ts';
import type { ToRelay } from './relay-process.ts';
import { ANCHORS, type Scene } from './scene.ts';

/** The `events` key of an anchor. */
const eventsOf = (anchor: string) => anchorKeys(anchor).find((key) => key.endsWith(':events')) as string;

export interface RelayHost {
  readonly id: string;
  readonly running: boolean;
  start(): Promise<void>;
  /** SIGKILL. */
  kill(): Promise<void>;
  pause(): void;
  resume(): void;
  /** What it hears of the registry and of the other relays from now on. */
  hear(what: Partial<ToRelay>): void;
}

/** Redis of some shape, two relays, and devices behind two signalling nodes; all processes of their own. */
export interface World {
  readonly scene: Scene;
  readonly shape: RedisShape;
  readonly relays: readonly RelayHost[];
  /** The test's own view of the registry, as any signalling node's. */
  readonly registry: Registry;
  readonly recorder: Recorder;
  fault(what: FaultKind, where: string): void;
  /** Starts `count` devices in `processes` processes. */
  startDevices(count: number, processes: number, seed: number): Promise<void>;
  stopDevices(): Promise<void>;
  /**
   * Writes down which answered changes the registry does not have any more. A stream is kept short: of what is older than it
   * nothing is said, so that it is to be asked every few seconds.
   */
  audit(): Promise<void>;
  /** Waits until every anchor has an owner that forwards, and writes down what the registry holds. */
  conclude(): Promise<void>;
  history(): Entry[];
  /** Ends every process. The folder with history and logs stays when `keep` is true. */
  stop(keep?: boolean): Promise<void>;
}

export interface WorldOptions {
  readonly planted?: PlantedFault;
  readonly coolingMs?: number;
  readonly leaseMs?: number;
  readonly quarantineMs?: number;
}

export async function startWorld(shape: RedisShape, options: WorldOptions = {}): Promise<World> {
  const folder = mkdtempSync(join(tmpdir(), 'mooring-chaos-'));
  writeFileSync(join(folder, 'site.key'), `${randomBytes(32).toString('hex')}\n`, { mode: 0o600 });
  const authority = await createAuthority({ file: (name) => join(folder, name) });
  const [leaf, ...ports] = await Promise.all([
    authority.issue('relay:chaos', ['127.0.0.1']),
    freePort(),
    freePort(),
  ]);
  const commandsFile = join(folder, 'commands.json');
  if (options.planted !== undefined)
    writeFileSync(commandsFile, JSON.stringify(commandsWith(options.planted)));
  const programs = {
    relay: await programPath('relay-process'),
    devices: await programPath('devices-process'),
  };
  const scene: Scene = {
    folder,
    redisUrl: shape.url,
    tls: { ...leaf, caFile: authority.certFile },
    relays: ports.map((port, at) => ({ id: `r${at + 1}`, port })),
    coolingMs: options.coolingMs ?? 3_000,
    ownershipMs: 2_000,
    quarantineMs: options.quarantineMs ?? 5_000,
    leaseMs: options.leaseMs ?? 15_000,
    ...(options.planted === undefined ? {} : { commandsFile }),
  };
  const recorder = recordIn(folder, 'test');
  const registry = await openSceneRegistry(scene, 'chaos-test', pino({ level: 'silent' }));
  const relays = scene.relays.map(({ id }) => relayHost(scene, id, programs.relay));
  const devices: Child[] = [];
  const lost = new Set<string>();
  const fault = (what: FaultKind, where: string) =>
    recorder.write({ type: 'fault', atMs: monotonicMs(), what, where });

  const world: World = {
    scene,
    shape,
    relays,
    registry,
    recorder,
    fault,
    async startDevices(count, processes, seed) {
      const each = Math.ceil(count / processes);
      for (let at = 0; at < processes; at += 1) {
        const args = [`d${at + 1}`, String(each), String(seed + at)];
        devices.push(child(programs.devices, [JSON.stringify(scene), ...args]));
      }
      await Promise.all(devices.map((one) => one.up));
    },
    async stopDevices() {
      for (const { process, said } of devices) {
        if (process.exitCode !== null) throw new Error(`the devices ended by themselves: ${said()}`);
      }
      for (const { process } of devices) if (process.connected) process.send('stop');
      await Promise.all(devices.map(({ ended }) => Promise.race([ended, wait(10_000)])));
    },
    async audit() {
      // Before the streams: what is answered later is not looked for.
      const entries = readHistory(folder);
      for (const { id: anchor } of ANCHORS) {
        const key = eventsOf(anchor);
        const primary = await shape.primaryOf(key);
        const stream = (await primary.call('XRANGE', key, '-', '+')) as [string, unknown][];
        const [first] = stream[0] ?? ['0-0'];
        const present = new Set(stream.flatMap(([fence]) => [fence, `${fence.split('-')[0]}-0`]));
        for (const entry of entries) {
          if (entry.type !== 'written' || entry.anchor !== anchor || isBefore(entry.fence, first)) continue;
          if (present.has(entry.fence) || lost.has(`${anchor} ${entry.fence}`)) continue;
          lost.add(`${anchor} ${entry.fence}`);
          recorder.write({ type: 'unwritten', atMs: entry.atMs, anchor, fence: entry.fence });
        }
      }
    },
    async conclude() {
      for (const { id: anchor } of ANCHORS) {
        await soon(`anchor ${anchor} has an owner and is believed`, async () => {
          const { owner, leases } = await registry.snapshot(anchor);
          if (owner === null || owner.remainingMs <= 0) return false;
          recorder.write({ type: 'held', atMs: monotonicMs(), anchor, leases: leases.map(factsOf) });
          return true;
        });
      }
    },
    history: () => readHistory(folder),
    async stop(keep = false) {
      await Promise.all([...devices, ...relays].map((one) => one.kill()));
      await registry.close().catch(() => undefined);
      recorder.close();
      if (!keep) rmSync(folder, { recursive: true, force: true });
    },
  };
  try {
    await Promise.all(relays.map((relay) => relay.start()));
    await world.conclude();
  } catch (error) {
    await world.stop(true);
    throw error;
  }
  return world;
}

interface Child {
  readonly process: ChildProcess;
  readonly up: Promise<void>;
  readonly ended: Promise<unknown>;
  /** The last that it said on stderr. */
  said(): string;
  kill(): Promise<void>;
}

function child(program: string, args: readonly string[]): Child {
  const started = spawn(process.execPath, [program, ...args], { stdio: ['ignore', 'ignore', 'pipe', 'ipc'] });
  let said = '';
  started.stderr?.on('data', (text) => {
    said = `${said}${text}`.slice(-4_000);
  });
  const ended = once(started, 'exit');
  const failed = ended.then(([code, signal]) => {
    throw new Error(`${program} ended (${code ?? signal}): ${said}`);
  });
  failed.catch(() => undefined);
  const up = Promise.race([once(started, 'message').then(() => undefined), failed]);
  up.catch(() => undefined);
  return {
    process: started,
    up,
    ended,
    said: () => said,
    async kill() {
      if (started.exitCode !== null || started.signalCode !== null) return;
      started.kill('SIGKILL');
      await ended;
    },
  };
}

function relayHost(scene: Scene, id: string, program: string): RelayHost & { kill(): Promise<void> } {
  let current: Child | null = null;
  let starts = 0;
  let wanted = false;
  let hears: ToRelay = { registry: 'both', planes: true };
  const running = () =>
    current !== null && current.process.exitCode === null && current.process.signalCode === null;
  return {
    id,
    get running() {
      return running();
    },
    async start() {
      if (running()) return;
      wanted = true;
      hears = { registry: 'both', planes: true };
      await soon(`relay ${id} serves`, async () => {
        if (!wanted) return true;
        // As its supervisor would: one that gives up because its registry is away is started again.
        starts += 1;
        current = child(program, [JSON.stringify(scene), id, String(starts)]);
        return current.up.then(() => true);
      });
    },
    async kill() {
      wanted = false;
      await current?.kill();
    },
    pause: () => void current?.process.kill('SIGSTOP'),
    resume: () => void current?.process.kill('SIGCONT'),
    hear(what) {
      hears = { ...hears, ...what };
      if (current?.process.connected) current.process.send(hears);
    },
  };
}

/** Polls until `holds`; what throws does not hold yet. */
export async function soon(what: string, holds: () => Promise<boolean>, withinMs = 40_000): Promise<void> {
  const deadlineMs = monotonicMs() + withinMs;
  let last: unknown;
  for (;;) {
    try {
      if (await holds()) return;
    } catch (error) {
      last = error;
    }
    if (monotonicMs() > deadlineMs) throw new Error(`not within ${withinMs} ms: ${what}`, { cause: last });
    await wait(50);
  }
}

function isBefore(fence: string, other: string): boolean {
  const [epoch, counter] = fence.split('-').map(BigInt) as [bigint, bigint];
  const [otherEpoch, otherCounter] = other.split('-').map(BigInt) as [bigint, bigint];
  return epoch < otherEpoch || (epoch === otherEpoch && counter < otherCounter);
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as { port: number };
  server.close();
  await once(server, 'close');
  return port;
}
