import { execFileSync } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Redis } from 'ioredis';
import pino from 'pino';
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { MooringError } from '../../../src/protocol/errors.ts';
import { openRegistry } from '../../../src/registry/open.ts';
import { silent, until } from './real-redis.ts';

let dataDir: string;
beforeEach(async () => {
  dataDir = await mkdtemp(join(tmpdir(), 'mooring-private-'));
});
afterEach(async () => {
  const pid = await serverPid().catch(() => undefined);
  if (pid !== undefined) process.kill(pid, 'SIGKILL');
  await rm(dataDir, { recursive: true, force: true });
});

/** The process id of the private server; rejects when none answers. */
async function serverPid(): Promise<number> {
  const redis = new Redis(join(dataDir, 'registry', 'redis.sock'), {
    lazyConnect: true,
    retryStrategy: () => null,
  });
  redis.on('error', () => undefined);
  try {
    await redis.connect();
    return Number(/process_id:(\d+)/.exec(await redis.info('server'))?.[1]);
  } finally {
    redis.disconnect();
  }
}

const runs = (pid: number) => {
  try {
    process.kill(pid, 0);
    // A killed child of this process stays as a zombie until it is reaped.
    return !/^State:\s+Z/m.test(execFileSync('cat', [`/proc/${pid}/status`], { encoding: 'utf8' }));
  } catch {
    return false;
  }
};

const wish = {
  pool: 'p',
  device: { tenant: 'acme', id: 'd1' },
  thumbprint: 'k'.repeat(43),
  kind: 'rsa-ip' as const,
  leaseMs: 60_000,
  requestId: '0'.repeat(32),
  quota: 1,
};
const declaration = {
  id: 'a1',
  pool: 'p',
  sharing: 'whole' as const,
  prefixes: ['192.0.2.8/30'],
  endpoints: ['198.51.100.1'],
  home: 'r1',
};

test('a private server starts, says so, and stops with its last user', async () => {
  const lines: string[] = [];
  const log = pino({ level: 'info' }, { write: (line: string) => void lines.push(line) });
  const first = await openRegistry({ dataDir, log });
  const pid = await serverPid();
  expect(lines.join()).toMatch(/started a private Redis/);
  const second = await openRegistry({ dataDir, log });
  expect(await serverPid()).toBe(pid);
  expect(lines.join()).toMatch(/adopted/);
  await first.close();
  expect(runs(pid)).toBe(true);
  expect(await second.relay('nobody')).toBeNull();
  await second.close();
  await until(() => !runs(pid));
});

test('of two that start at the same moment one starts the server and both use it', async () => {
  const all = await Promise.all([1, 2, 3].map(() => openRegistry({ dataDir, log: silent })));
  await all[0]!.declareAnchor(declaration);
  for (const one of all) expect(await one.poolAnchors('p')).toEqual(['a1']);
  for (const one of all) await one.close();
});

test('leases outlive kill -9 of the private server, and the open registry finds the new one', async () => {
  const registry = await openRegistry({ dataDir, log: silent });
  await registry.declareAnchor(declaration);
  const { epoch } = await registry.claim('a1', 'r1', '00'.repeat(8), 60_000);
  const granted = await registry.grant(wish);
  await registry.activate('a1', granted.lease.id, epoch);
  const pid = await serverPid();
  process.kill(pid, 'SIGKILL');
  await until(() => !runs(pid));

  const again = await openRegistry({ dataDir, log: silent });
  expect(await serverPid()).not.toBe(pid);
  // Until its relay has claimed it again, under an epoch far above, nobody believes that nothing was lost.
  await expect(again.snapshot('a1')).rejects.toMatchObject({ code: 'ERR_MOORING_QUARANTINED' });
  const next = await again.claim('a1', 'r1', '01'.repeat(8), 60_000);
  expect(next.epoch).toBeGreaterThan(epoch + 1_000n);
  const { leases, sessions } = await again.snapshot('a1');
  expect(leases).toMatchObject([{ id: granted.lease.id, state: 'active', address: granted.lease.address }]);
  expect(sessions).toEqual([granted.session]);
  // The same answers, also over the connection that was there before.
  expect((await registry.grant(wish)).lease.id).toBe(granted.lease.id);
  await registry.renew('a1', 'r1', next.epoch, 60_000);
  await again.close();
  await registry.close();
});

test('a directory that is too long for a unix socket is refused by name', async () => {
  const long = join(dataDir, 'x'.repeat(100));
  const error: MooringError = await openRegistry({ dataDir: long, log: silent }).catch((cause) => cause);
  expect(error.code).toBe('ERR_MOORING_CONFIG');
  expect(error.message).toMatch(/--data-dir .*longer than 107 octets/);
});

test('without a server program and without a URL the error names both remedies', async () => {
  const path = process.env.PATH;
  process.env.PATH = dataDir;
  try {
    const error: MooringError = await openRegistry({ dataDir, log: silent }).catch((cause) => cause);
    expect(error.code).toBe('ERR_MOORING_REGISTRY_UNAVAILABLE');
    expect(error.message).toMatch(/redis-server.*valkey-server.*apt-get install redis-server.*REDIS_URL/);
  } finally {
    process.env.PATH = path;
  }
});
