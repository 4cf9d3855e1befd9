import {
  constants,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { Lease, Session } from '../../../src/protocol/lease.ts';
import type { JournalBase } from '../../../src/relay/journal/anchor-journal.ts';
import { type Claim, openJournal } from '../../../src/relay/journal/journal.ts';
import { decodeRecords, encodeRecord } from '../../../src/relay/journal/record.ts';
import { type Instant, type Journalled, replay } from '../../../src/relay/journal/replay.ts';

const HERE: Instant = { machine: 'm1', monotonicMs: 5_000, wallMs: 1_700_000_000_000 };
const session = (n: number): Session => ({
  id: n.toString(16).padStart(32, '0'),
  index: n,
  device: { tenant: 't', id: `d${n}` },
  thumbprint: 'x'.repeat(43),
  salt: 'ab'.repeat(16),
});
const lease = (n: number, state: Lease['state'] = 'active'): Lease => ({
  id: `a1.${String(n).padStart(22, '0')}`,
  anchor: 'a1',
  pool: 'p',
  device: { tenant: 't', id: `d${n}` },
  bindId: n,
  kind: 'rsa-ip',
  address: `198.51.100.${n}`,
  ports: null,
  spis: null,
  session: session(n).id,
  state,
  remainingMs: 60_000,
  fence: `3-${n}`,
});
const CLAIM: Claim = { relay: 'r1', epoch: 3n, endpoints: ['203.0.113.1'], prefixes: ['198.51.100.0/24'] };

let directory: string;
let held: Omit<JournalBase, 'claim'> & { claim: Claim };
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'mooring-journal-'));
  held = { claim: CLAIM, sessions: [], leases: [], plan: '{}', standby: null, fence: '3-0' };
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

const file = () => join(directory, 'a1.journal');
const read = (octets = readFileSync(file()), now = HERE) => replay(octets, 1, now);
const ids = (of: Journalled | null) => of?.leases.map(({ lease: one }) => one.id);

async function journalOf(leases: number) {
  const journal = await openJournal(directory, { now: () => HERE });
  const one = journal.begin('a1', () => held);
  await one.synced();
  for (let n = 1; n <= leases; n += 1) {
    one.note({ type: 'session', session: session(n) });
    one.note({ type: 'lease', lease: lease(n), untilMs: 60_000 + n });
    one.note({ type: 'at', fence: `3-${n}` });
  }
  return { journal, one };
}

/** The flags of the descriptors by which this process has a file open (proc_pid_fdinfo(5)). */
const openFlags = (path: string): number[] =>
  readdirSync('/proc/self/fd').flatMap((fd) => {
    try {
      if (readlinkSync(`/proc/self/fd/${fd}`) !== path) return [];
      const [, octal] = /^flags:\s+([0-7]+)$/m.exec(readFileSync(`/proc/self/fdinfo/${fd}`, 'utf8'))!;
      return [Number.parseInt(octal!, 8)];
    } catch {
      // The one by which the folder was read.
      return [];
    }
  });

test('what is written is on the disk itself: the file is written through', async () => {
  const { one } = await journalOf(1);
  await one.synced();
  const flags = openFlags(file());
  expect(flags).toHaveLength(1);
  expect(flags[0]! & constants.O_DSYNC).toBe(constants.O_DSYNC);
  await one.close();
});

test('a journal gives back what was noted and synced', async () => {
  const { journal, one } = await journalOf(3);
  one.note({ type: 'lease-ended', id: lease(2).id });
  one.note({ type: 'session-ended', id: session(2).id });
  one.note({ type: 'at', fence: '3-4' });
  await one.synced();
  const { leases, sessions, epoch, fence, standby } = (await journal.read()).get('a1')!;
  expect(leases).toEqual([
    { lease: lease(1), untilMs: 60_001 },
    { lease: lease(3), untilMs: 60_003 },
  ]);
  expect(sessions).toEqual([session(1), session(3)]);
  expect({ epoch, fence, standby }).toEqual({ epoch: 3n, fence: '3-4', standby: null });
  await one.close();
});

describe('a process killed while it writes', () => {
  test('leaves a journal that ends at a mark, wherever the file was cut', async () => {
    const { one } = await journalOf(6);
    await one.synced();
    const whole = readFileSync(file());
    const marks = [...decodeRecords(whole)].filter(({ type }) => type === 'at').length;
    expect(marks).toBe(7);
    let last = -1;
    for (let length = 0; length <= whole.length; length += 1) {
      const found = read(whole.subarray(0, length));
      const count = found === null ? -1 : found.leases.length;
      expect(count, `cut at ${length}`).toBeGreaterThanOrEqual(last);
      if (found !== null) expect(found.fence).toBe(`3-${count}`);
      last = count;
    }
    expect(last).toBe(6);
    await one.close();
  });

  test('or rubbish behind the last mark, which changes nothing', async () => {
    const { one } = await journalOf(3);
    await one.synced();
    const whole = readFileSync(file());
    for (const rubbish of [Buffer.alloc(4096), Buffer.alloc(64, 0xff), whole.subarray(5, 200)]) {
      expect(read(Buffer.concat([whole, rubbish]))).toEqual(read(whole));
    }
    await one.close();
  });

  test('or an octet that is wrong: what is behind it does not count', async () => {
    const { one } = await journalOf(4);
    await one.synced();
    const whole = readFileSync(file());
    for (let at = 0; at < whole.length; at += 1) {
      const damaged = Buffer.from(whole);
      damaged[at]! ^= 0x10;
      const found = read(damaged);
      expect(found === null || found.leases.length < 4 || at >= whole.length - 8, `octet ${at}`).toBe(true);
    }
    await one.close();
  });

  test('while it replaces the file leaves the old one or the new one', async () => {
    const { one } = await journalOf(2);
    await one.synced();
    writeFileSync(`${file()}.new`, readFileSync(file()).subarray(0, 100));
    expect(ids(read())).toEqual([lease(1).id, lease(2).id]);
    await one.close();
  });
});

test('a file that holds nothing whole is told of by its name, and the others are read', async () => {
  const { one } = await journalOf(1);
  await one.close();
  writeFileSync(join(directory, 'a2.journal'), readFileSync(file()).subarray(0, 60));
  const said: unknown[] = [];
  const log = { error: (about: unknown) => said.push(about) };
  const journal = await openJournal(directory, { log: log as never });
  expect([...(await journal.read()).keys()]).toEqual(['a1']);
  expect(said).toEqual([{ file: join(directory, 'a2.journal') }]);
});

test('the check can fail: without the checksum a wrong octet is believed', async () => {
  const { one } = await journalOf(2);
  await one.synced();
  const records = [...decodeRecords(readFileSync(file()))];
  const forged = Buffer.concat(
    records.map((record) =>
      encodeRecord(record.type === 'lease' ? { ...record, lease: { ...record.lease, bindId: 99 } } : record),
    ),
  );
  expect(read(forged)?.leases.map(({ lease: { bindId } }) => bindId)).toEqual([99, 99]);
  await one.close();
});

test('a hundred grants at one moment wait for few writes, and each is on the disk when it is acknowledged', async () => {
  const { one } = await journalOf(0);
  await Promise.all(
    Array.from({ length: 100 }, async (_, n) => {
      one.note({ type: 'session', session: session(n + 1) });
      one.note({ type: 'lease', lease: lease(n + 1), untilMs: 1 });
      one.note({ type: 'at', fence: `3-${n + 1}` });
      await one.synced();
      expect(ids(read())).toContain(lease(n + 1).id);
    }),
  );
  await one.close();
});

test('a journal that has grown is written anew with what is held, and goes on', async () => {
  const { one } = await journalOf(0);
  held = { ...held, sessions: [session(1)], leases: [{ lease: lease(1), untilMs: 7 }], fence: '3-9999' };
  for (let n = 1; n <= 4_000; n += 1) {
    one.note({ type: 'session', session: session(1) });
    one.note({ type: 'lease', lease: lease(1), untilMs: 7 });
    one.note({ type: 'at', fence: `3-${n}` });
  }
  await one.synced();
  expect(readFileSync(file()).length).toBeGreaterThan(1_048_576);
  one.note({ type: 'at', fence: '3-9999' });
  await one.synced();
  expect(readFileSync(file()).length).toBeLessThan(2_000);
  one.note({ type: 'lease', lease: lease(2), untilMs: 8 });
  one.note({ type: 'at', fence: '3-10000' });
  await one.synced();
  expect(ids(read())).toEqual([lease(1).id, lease(2).id]);
  await one.close();
});

test('deadlines go on with the machine’s clock, and with the wall clock when the machine was started anew', async () => {
  const { one } = await journalOf(1);
  await one.synced();
  expect(read()?.leases[0]?.untilMs).toBe(60_001);
  const later = { machine: 'm2', monotonicMs: 100, wallMs: HERE.wallMs + 30_000 };
  // 55,001 ms were left, 30,000 have passed.
  expect(read(undefined, later)?.leases[0]?.untilMs).toBe(100 + 25_001);
  await one.close();
});

test('who may claim counts at once; what an anchor’s end leaves is aside until it is forgotten', async () => {
  const { journal, one } = await journalOf(1);
  const standby = { id: 'r2', boot: 'b2'.repeat(8), planeUrl: 'wss://r2' };
  one.note({ type: 'standby', standby });
  await one.synced();
  expect(read()?.standby).toEqual(standby);
  await one.close();
  await journal.end('a1');
  expect((await journal.read()).size).toBe(0);
  expect((await journal.readAside()).get('a1')?.standby).toEqual(standby);
  await journal.end('a1');
  expect((await journal.readAside()).size).toBe(1);
  await journal.forget('a1');
  expect((await journal.readAside()).size).toBe(0);
});

test('who still serves the anchor under a former epoch does not write over the journal of the next', async () => {
  const { journal, one } = await journalOf(1);
  await one.close();
  held = { ...held, claim: { ...CLAIM, epoch: 4n } };
  const next = journal.begin('a1', () => held);
  await next.synced();
  one.note({ type: 'lease', lease: lease(2), untilMs: 60_002 });
  one.note({ type: 'at', fence: '3-2' });
  await expect(one.synced()).rejects.toMatchObject({ code: 'ERR_MOORING_NOT_OWNER', temporary: true });
  next.note({ type: 'lease', lease: lease(3), untilMs: 60_003 });
  next.note({ type: 'at', fence: '4-3' });
  await next.synced();
  expect(read()).toMatchObject({ epoch: 4n, fence: '4-3', leases: [{ lease: lease(3) }] });
  await next.close();
});

test('no secret is in a journal: K_root and the keys below it are derived', async () => {
  const { one } = await journalOf(2);
  await one.synced();
  expect(readFileSync(file(), 'utf8')).not.toMatch(/root|secret|private/i);
  await one.close();
});
