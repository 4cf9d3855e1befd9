import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { chmodSync, chownSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { commandConnection } from '../../../src/registry/connection.ts';
import type { Registry } from '../../../src/registry/registry.ts';
import { createStore } from '../../../src/registry/store.ts';
import { openJournal } from '../../../src/relay/journal/journal.ts';
import { createRelayNode, type RelayNode } from '../../../src/relay/node.ts';
import { type RealRedis, realRedis, silent } from '../registry/real-redis.ts';

const BOOT = 'b'.repeat(16);
const DISK_OCTETS = 65_536;
const NOBODY = 65_534;

let server: RealRedis;
let registry: Registry;
let folder: string;
let disk: string;
let node: RelayNode | undefined;
beforeAll(async () => {
  server = await realRedis();
  registry = createStore(commandConnection(server.client()), silent, async () => undefined);
});
afterAll(() => server.stop());
beforeEach(async () => {
  await server.client().flushall();
  folder = mkdtempSync(join(tmpdir(), 'mooring-disk-'));
  chmodSync(folder, 0o755);
  disk = join(folder, 'disk');
  mkdirSync(disk);
});
afterEach(async () => {
  await node?.close();
  node = undefined;
  rmSync(folder, { recursive: true, force: true });
});

function mounted(...options: string[]): Disposable {
  const settings = [`size=${DISK_OCTETS}`, ...options].join(',');
  execFileSync('mount', ['-t', 'tmpfs', '-o', settings, 'tmpfs', disk]);
  // A failed test may have left a file of it open.
  return { [Symbol.dispose]: () => execFileSync('umount', ['--lazy', disk]) };
}

/** A relay without packets that owns `a1` and journals on the disk. */
async function relay() {
  const journal = await openJournal(join(disk, 'journal'));
  node = createRelayNode({
    settings: { id: 'r1', port: 4556, innerMtu: 1280, outageGraceMs: 0 } as never,
    ...{ boot: BOOT, registry, journal, log: silent, siteKey: new Uint8Array(32) },
    engine: { command: async ({ op }) => (op === 'export' ? { sessions: [] } : null) as never },
    announcer: { prepare: () => undefined, announce: () => undefined, withdraw: () => undefined },
    planeFor: () => Promise.reject(new Error('nobody is asked')),
    onEnded: () => undefined,
  });
  await registry.declareAnchor({
    ...{ id: 'a1', pool: 'p', sharing: 'shared', home: 'r1', portBlock: 1024, spiBlock: 256 },
    ...{ prefixes: ['192.0.2.8/31'], endpoints: ['198.51.100.1'], coolingMs: 60_000 },
  });
  const { epoch } = await registry.claim('a1', 'r1', BOOT, 600_000);
  await node.serve('a1', epoch, Number.MAX_SAFE_INTEGER);
  return { node, journal };
}

const granted = (device: string) =>
  registry.grant({
    ...{ pool: 'p', device: { tenant: 't', id: device }, thumbprint: '0'.repeat(43) },
    ...({ kind: 'rsipsec', leaseMs: 600_000, requestId: randomBytes(16).toString('hex'), quota: 4 } as const),
  });

/** Everything that is left of the disk; returns how to give it back. */
function filled(): () => void {
  const filler = join(disk, 'filler');
  const octet = Buffer.alloc(1);
  for (const size of [4096, 1]) {
    try {
      for (;;) writeFileSync(filler, size === 1 ? octet : Buffer.alloc(size), { flag: 'a' });
    } catch (error) {
      expect((error as NodeJS.ErrnoException).code).toBe('ENOSPC');
    }
  }
  return () => rmSync(filler);
}

const withoutRoot = process.getuid?.() !== 0;
if (withoutRoot) console.warn('skipped: journals on small, full and foreign disks: needs root to mount them');

describe.skipIf(withoutRoot)('a relay whose disk', () => {
  test('is full acknowledges nothing, says which file it is and what to do, and goes on by itself when there is room', async () => {
    using _ = mounted();
    const { node, journal } = await relay();
    const first = await granted('ann');
    await node.plane.install(first);
    const empty = filled();
    const kept: string[] = [];
    // What is left of the last page of the file may take some.
    let refused: Error | undefined;
    for (let at = 0; refused === undefined && at < 64; at += 1) {
      const next = await granted(`ben${at}`).catch(() => undefined);
      if (next === undefined) break;
      await node.plane.install(next).then(
        () => kept.push(next.lease.id),
        (error: Error) => {
          refused = error;
        },
      );
    }
    const path = join(disk, 'journal', 'a1.journal');
    expect(refused).toMatchObject({ code: 'ERR_MOORING_JOURNAL', temporary: true });
    expect(refused?.message).toBe(
      `${path} cannot be written, and what is not in it is not acknowledged (ENOSPC); make room on its disk`,
    );
    const held = async () => (await journal.read()).get('a1')?.leases.map(({ lease }) => lease.id);
    expect(await held()).toEqual([first.lease.id, ...kept]);
    // An extension, or an end, is on the way by the same call.
    const { id: leaseId, device } = first.lease;
    await registry.extend({ leaseId, device, leaseMs: 700_000, requestId: randomBytes(16).toString('hex') });
    const heard = () =>
      node.plane.apply({ anchor: 'a1', event: { type: 'owned', fence: '1-1', relay: 'r1' } });
    await expect(heard()).rejects.toMatchObject({ code: 'ERR_MOORING_JOURNAL', temporary: true });
    empty();
    await heard();
    const late = await granted('cat');
    await node.plane.install(late);
    expect(await held()).toEqual(expect.arrayContaining([first.lease.id, ...kept, late.lease.id]));
  });

  test('is read-only does not start, and says why', async () => {
    using _ = mounted('ro');
    await expect(openJournal(disk)).rejects.toMatchObject({ code: 'ERR_MOORING_JOURNAL' });
    await expect(openJournal(join(disk, 'journal'))).rejects.toMatchObject({
      code: 'ERR_MOORING_JOURNAL',
      message: `${disk}/journal cannot hold the journal (EROFS); mount its file system writable, or name another place`,
    });
  });

  test('is another user’s does not start, and says whose it is to be', async () => {
    const journals = join(disk, 'journal');
    await asNobody(async () => {
      await expect(openJournal(journals)).rejects.toMatchObject({
        code: 'ERR_MOORING_JOURNAL',
        message: `${journals} cannot hold the journal (EACCES); let the user that this runs as own it (chown), and every folder above be passed (chmod +x)`,
      });
    });
  });

  test('has a journal that is another user’s does not start without what it holds', async () => {
    const { journal: written } = await relay();
    await node?.close();
    const journals = join(disk, 'journal');
    chownSync(journals, NOBODY, NOBODY);
    await asNobody(async () => {
      const journal = await openJournal(journals);
      await expect(journal.read()).rejects.toMatchObject({
        code: 'ERR_MOORING_JOURNAL',
        message: expect.stringMatching(/journal\/a1\.journal cannot be read \(EACCES\); let the user/),
      });
    });
    expect((await written.read()).size).toBe(1);
  });
});

/** As a process of that user would. */
async function asNobody(work: () => Promise<void>): Promise<void> {
  process.setegid?.(NOBODY);
  process.seteuid?.(NOBODY);
  try {
    await work();
  } finally {
    process.seteuid?.(0);
    process.setegid?.(0);
  }
}
