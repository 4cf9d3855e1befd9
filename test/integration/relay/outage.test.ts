import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Redis } from 'ioredis';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import type { EngineCommand } from '../../../src/datapath/engine-api.ts';
import type { Lease } from '../../../src/protocol/lease.ts';
import { commandConnection } from '../../../src/registry/connection.ts';
import type { Registry } from '../../../src/registry/registry.ts';
import { createStore } from '../../../src/registry/store.ts';
import { openJournal } from '../../../src/relay/journal/journal.ts';
import { createRelayNode, type RelayNode } from '../../../src/relay/node.ts';
import { commandsWithTestClock } from '../../oracle/registry-run.ts';
import { silent, until } from '../registry/real-redis.ts';

const DEVICE = { tenant: 't', id: 'd1' };
const LEASE_MS = 20_000;
const GRACE_MS = 600_000;
const BOOT = 'b'.repeat(16);
const hex = (digit: string) => digit.repeat(32);

let folder: string;
let server: ChildProcess;
let isStopped: boolean;
let redis: Redis;
let registry: Registry;
let node: RelayNode;
let ticks: (() => void)[];
/** Of relay and registry, in step. */
let nowMs: number;
/** Lease → until when the engine forwards for it. */
const forwarded = new Map<string, number>();

async function startServer(): Promise<void> {
  const socket = join(folder, 'redis.sock');
  const files = ['--dir', folder, '--save', '', '--appendonly', 'yes', '--appendfsync', 'no'];
  server = spawn('redis-server', ['--port', '0', '--unixsocket', socket, ...files], { stdio: 'ignore' });
  await until(async () => (await redis.ping().catch(() => '')) === 'PONG');
  isStopped = false;
}

async function stopServer(): Promise<void> {
  isStopped = true;
  const ended = once(server, 'exit');
  server.kill('SIGKILL');
  await ended;
}

const engine = {
  async command(command: EngineCommand) {
    if (command.op === 'lease') forwarded.set(command.lease.id, command.untilMs);
    if (command.op === 'drop-lease') forwarded.delete(command.id);
    return (command.op === 'export' ? { sessions: [] } : null) as never;
  },
};

/** A relay without packets whose timers run when they are told to. */
async function relay(): Promise<RelayNode> {
  const journal = await openJournal(join(folder, 'journal'), {
    now: () => ({ machine: 'm', monotonicMs: nowMs, wallMs: nowMs }),
  });
  ticks = [];
  return createRelayNode({
    settings: { id: 'r1', port: 4556, innerMtu: 1280, outageGraceMs: GRACE_MS } as never,
    ...{ boot: BOOT, registry, engine, journal, former: await journal.read(), log: silent },
    siteKey: new Uint8Array(32),
    announcer: { prepare: () => undefined, announce: () => undefined, withdraw: () => undefined },
    planeFor: () => Promise.reject(new Error('nobody is asked')),
    onEnded: () => undefined,
    timers: {
      nowMs: () => nowMs,
      after(_, run) {
        ticks.push(run);
        return () => undefined;
      },
    },
  });
}

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'mooring-outage-'));
  redis = new Redis(join(folder, 'redis.sock'), {
    ...{ commandTimeout: 500, retryStrategy: () => 10, maxRetriesPerRequest: null },
    autoResendUnfulfilledCommands: false,
  });
  redis.on('error', () => undefined);
  await startServer();
  // While the server is stopped patience is over after one sending.
  let paceMs = 0;
  const pace = {
    nowMs() {
      if (isStopped) paceMs += 10_000;
      return paceMs;
    },
    wait: async () => undefined,
  };
  const connection = commandConnection(redis, commandsWithTestClock(), 1_000, pace);
  const store = createStore(connection, silent, async () => undefined);
  registry = { ...store, sweep: counted(store.sweep), stretch: counted(store.stretch) };
});
afterAll(async () => {
  redis.disconnect();
  await stopServer();
  rmSync(folder, { recursive: true, force: true });
});
beforeEach(async () => {
  await redis.flushall();
  rmSync(join(folder, 'journal'), { recursive: true, force: true });
  forwarded.clear();
  nowMs = 1_700_000_000_000;
  await redis.set('test:now', nowMs);
  await registry.declareAnchor({
    ...{ id: 'a1', pool: 'p', sharing: 'whole', home: 'r1' },
    ...{ prefixes: ['192.0.2.0/28'], endpoints: ['198.51.100.1'] },
  });
  const { epoch } = await registry.claim('a1', 'r1', BOOT, 1e9);
  node = await relay();
  await node.serve('a1', epoch, Number.POSITIVE_INFINITY);
});
afterEach(() => node.close());

/** Asked of the registry, and not answered yet. */
let underWay = 0;

function counted<A extends unknown[], R>(ask: (...args: A) => Promise<R>): (...args: A) => Promise<R> {
  return (...args) => {
    underWay += 1;
    return ask(...args).finally(() => {
      underWay -= 1;
    });
  };
}

/** Time passes, and the relay sweeps, or hears that it cannot. */
async function tick(afterMs = 1_000): Promise<void> {
  nowMs += afterMs;
  if (redis.status === 'ready') await redis.set('test:now', nowMs).catch(() => undefined);
  for (const run of ticks.splice(0)) run();
  await new Promise(setImmediate);
  await until(() => underWay === 0);
}

async function acknowledged(request: string): Promise<Lease> {
  const { lease, session } = await registry.grant({
    ...{ pool: 'p', device: DEVICE, thumbprint: 'x'.repeat(43), kind: 'rsa-ip', leaseMs: LEASE_MS },
    ...{ requestId: hex(request), quota: 4 },
  });
  return (await node.plane.install({ lease, session })).lease;
}

const held = async () => new Map((await registry.snapshot('a1')).leases.map((one) => [one.id, one]));
const extended = (leaseId: string) =>
  registry.extend({ leaseId, device: DEVICE, leaseMs: LEASE_MS, requestId: hex('e') });

/** A lease that its relay forwards for past its end, because the registry is stopped. */
async function putOff(): Promise<Lease> {
  const lease = await acknowledged('1');
  await tick();
  await stopServer();
  await tick();
  await until(() => forwarded.get(lease.id)! > nowMs + LEASE_MS);
  return lease;
}

describe('a lease that nobody could extend because the registry was stopped', () => {
  test('is forwarded past its end, is still there when the registry is, and is extended then', async () => {
    const lease = await putOff();
    nowMs += 30_000;
    await startServer();
    await tick();
    await until(async () => (await held()).get(lease.id)!.remainingMs > 0);
    expect((await extended(lease.id)).lease.remainingMs).toBe(LEASE_MS);
    for (let at = 0; at < 3; at += 1) await tick();
    expect((await held()).has(lease.id)).toBe(true);
  });

  test('ends a while later when nobody extends it then either', async () => {
    const lease = await putOff();
    await startServer();
    await tick();
    await until(async () => (await held()).get(lease.id)!.remainingMs > LEASE_MS);
    await tick(120_000);
    await until(async () => {
      await tick();
      return !(await held()).has(lease.id);
    });
    await until(() => !forwarded.has(lease.id));
  });

  test('is told of by its relay’s journal when the relay is started anew meanwhile', async () => {
    const lease = await putOff();
    await node.close();
    nowMs += 30_000;
    await startServer();
    await redis.set('test:now', nowMs);
    node = await relay();
    const { epoch } = await registry.claim('a1', 'r1', 'c'.repeat(16), 1e9);
    await node.serve('a1', epoch, Number.POSITIVE_INFINITY);
    expect(forwarded.get(lease.id)).toBeGreaterThan(nowMs);
    await tick();
    await until(async () => (await held()).get(lease.id)!.remainingMs > 0);
    expect((await extended(lease.id)).lease.id).toBe(lease.id);
  });

  test('is not over for a moment where another server answers and hears from the owner what it holds', async () => {
    const lease = await putOff();
    nowMs += 30_000;
    await startServer();
    await redis.mset('test:now', nowMs, 'test:server', 'second');
    await expect(extended(lease.id)).rejects.toMatchObject({ code: 'ERR_MOORING_QUARANTINED' });
    const report = { relay: 'r1', boot: BOOT, hasStandby: false, ...node.held('a1') };
    await registry.report('a1', report, 1e6);
    expect((await extended(lease.id)).lease.remainingMs).toBe(LEASE_MS);
  });

  test('comes back no more when it was freed before', async () => {
    const lease = await acknowledged('1');
    const { epoch } = await registry.owner('a1').then((owner) => owner!);
    await registry.free({ leaseId: lease.id, device: DEVICE, requestId: hex('f') });
    await registry.stretch('a1', epoch, [{ id: lease.id, remainingMs: 60_000 }]);
    expect((await held()).size).toBe(0);
    await expect(
      registry.stretch('a1', epoch - 1n, [{ id: lease.id, remainingMs: 60_000 }]),
    ).rejects.toMatchObject({ code: 'ERR_MOORING_STALE_EPOCH' });
  });
});
