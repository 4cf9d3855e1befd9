import { mkdtempSync, rmSync } from 'node:fs';
import * as disk from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import type { EngineCommand } from '../../../src/datapath/engine-api.ts';
import type { Anchor, Registry } from '../../../src/registry/registry.ts';
import { type Journal, openJournal } from '../../../src/relay/journal/journal.ts';
import { createRelayNode } from '../../../src/relay/node.ts';
import { silent } from '../../integration/registry/real-redis.ts';

/** The disk itself, but for what a test holds up. */
vi.mock('node:fs/promises', async (original) => {
  const real = await original<typeof disk>();
  return { ...real, rename: vi.fn(real.rename) };
});

let folder: string;
let journal: Journal;
beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'mooring-turns-'));
  journal = await openJournal(folder);
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

function gate(): {
  readonly opened: Promise<void>;
  open(): void;
  readonly reached: Promise<void>;
  reach(): void;
} {
  let open = (): void => undefined;
  let reach = (): void => undefined;
  const opened = new Promise<void>((resolve) => {
    open = resolve;
  });
  const reached = new Promise<void>((resolve) => {
    reach = resolve;
  });
  return { opened, reached, open: () => open(), reach: () => reach() };
}

const held = (anchor: string, epoch: bigint) => () => ({
  ...{ sessions: [], leases: [], plan: '{}', standby: null, fence: `${epoch}-0` },
  claim: { relay: 'r1', epoch, endpoints: ['198.51.100.1'], prefixes: [`192.0.2.${anchor.slice(1)}/32`] },
});
const epochOf = async (anchor: string) => (await journal.read()).get(anchor)?.epoch;

test('a journal that begins while the former one is being put aside is written when that is done', async () => {
  await journal.begin('a1', held('a1', 1n)).synced();
  const { rename } = await vi.importActual<typeof disk>('node:fs/promises');
  const leaving = gate();
  vi.mocked(disk.rename).mockImplementationOnce(async (...of) => {
    leaving.reach();
    await leaving.opened;
    return rename(...of);
  });
  const ended = journal.end('a1');
  await leaving.reached;
  const next = journal.begin('a1', held('a1', 2n));
  const synced = next.synced();
  // As many steps as it takes where nothing is in the way.
  await journal.begin('a2', held('a2', 1n)).synced();
  leaving.open();
  await Promise.all([ended, synced]);
  expect(await epochOf('a1')).toBe(2n);
  await next.close();
});

test('a journal that begins while the former one is still written to takes its place, and is not mixed with it', async () => {
  const former = journal.begin('a1', held('a1', 1n));
  const formerSynced = former.synced().catch((error: Error) => error);
  const next = journal.begin('a1', held('a1', 2n));
  await Promise.all([formerSynced, next.synced()]);
  former.note({ type: 'at', fence: '1-9' });
  await expect(former.synced()).rejects.toMatchObject({ code: 'ERR_MOORING_NOT_OWNER', temporary: true });
  expect(await epochOf('a1')).toBe(2n);
  await next.close();
});

test('the end of an anchor closes what is still being written of it, and puts it aside', async () => {
  const one = journal.begin('a1', held('a1', 1n));
  const synced = one.synced().catch((error: Error) => error);
  await journal.end('a1');
  await synced;
  await expect(one.synced()).rejects.toMatchObject({ code: 'ERR_MOORING_NOT_OWNER' });
  expect(await disk.readdir(folder)).toEqual(['a1.former']);
});

/** A relay over a registry and an engine that wait where a test says so. */
function relay() {
  const waiting = new Map<string, ReturnType<typeof gate>>();
  const hold = (what: string) => {
    const one = gate();
    waiting.set(what, one);
    return one;
  };
  const passes = async (what: string): Promise<void> => {
    const one = waiting.get(what);
    waiting.delete(what);
    one?.reach();
    await one?.opened;
  };
  const known = { epoch: 1n };
  const declared = {
    ...{ id: 'a1', endpoints: ['198.51.100.1'], prefixes: ['192.0.2.1/32'], draining: [], retiring: false },
  } as unknown as Anchor;
  const registry = {
    watch: async () => async () => undefined,
    async snapshot() {
      await passes('snapshot');
      const nothing = { leases: [], sessions: [], hints: [], owner: null };
      return { anchor: declared, epoch: known.epoch, lastId: '1-1', ...nothing };
    },
    plan: async () => '',
    events: async (_: string, lastId: string) => ({ reload: false, events: [], lastId }),
  } as unknown as Registry;
  const node = createRelayNode({
    settings: { id: 'r1', port: 4556, innerMtu: 1280, outageGraceMs: 0 } as never,
    ...{ boot: '0'.repeat(16), registry, journal, log: silent, siteKey: new Uint8Array(32) },
    engine: {
      async command({ op }: EngineCommand) {
        await passes(op);
        return (op === 'export' ? { sessions: [] } : null) as never;
      },
    },
    announcer: { prepare: () => undefined, announce: () => undefined, withdraw: () => undefined },
    planeFor: () => Promise.reject(new Error('nobody is asked')),
    onEnded: () => undefined,
    timers: { nowMs: () => 0, after: () => () => undefined },
  });
  return { node, hold, known };
}

test('an anchor that is served again while it is let go keeps the journal of its new epoch', async () => {
  const { node, hold, known } = relay();
  await node.serve('a1', 1n, 1_000);
  const dropping = hold('drop-anchor');
  const forsaken = node.forsake('a1');
  await dropping.reached;
  known.epoch = 2n;
  await node.serve('a1', 2n, 1_000);
  await node.noteStandby('a1', null);
  dropping.open();
  await forsaken;
  await node.noteStandby('a1', null);
  expect(await epochOf('a1')).toBe(2n);
  await node.close();
});

test('an anchor that is lost while it is being installed leaves no journal', async () => {
  const { node, hold } = relay();
  const installing = hold('installed');
  const served = node.serve('a1', 1n, 1_000);
  await installing.reached;
  await node.forsake('a1');
  installing.open();
  await served;
  await node.close();
  expect(await disk.readdir(folder)).toEqual([]);
});

test('a relay that is closed while it begins to serve waits for that, and writes nothing afterwards', async () => {
  const { node, hold } = relay();
  const reading = hold('snapshot');
  const served = node.serve('a1', 1n, 1_000);
  await reading.reached;
  const closed = node.close().then(() => disk.readdir(folder));
  reading.open();
  const files = await closed;
  expect(files).toEqual(['a1.journal']);
  await served;
  // What was claimed until now, and is answered late.
  rmSync(folder, { recursive: true });
  await node.serve('a1', 2n, 1_000);
  await node.forsake('a1');
  expect(node.anchors()).toEqual([]);
});

test('an anchor that the registry has forgotten since it was claimed is not served as forgotten', async () => {
  const { node, known } = relay();
  known.epoch = 0n;
  await expect(node.serve('a1', 1n, 1_000)).rejects.toMatchObject({ code: 'ERR_MOORING_QUARANTINED' });
  await node.close();
  expect(await disk.readdir(folder)).toEqual([]);
});
