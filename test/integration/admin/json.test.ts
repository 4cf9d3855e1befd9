import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, expect, test, vi } from 'vitest';
import { anchorNoun } from '../../../src/cli/operator/anchors.ts';
import { type Noun, runOperatorCommand } from '../../../src/cli/operator/command.ts';
import { leaseNoun } from '../../../src/cli/operator/leases.ts';
import { poolNoun } from '../../../src/cli/operator/pools.ts';
import { relayNoun } from '../../../src/cli/operator/relays.ts';
import { type AdminBed, BOOT, startAdminBed } from './admin-bed.ts';

const NOUNS: readonly Noun[] = [poolNoun, anchorNoun, leaseNoun, relayNoun];

let bed: AdminBed;
let directory: string;
beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), 'mooring-json-'));
  bed = await startAdminBed();
  for (const id of ['r1', 'r2'])
    await bed.registry.announceRelay({ id, boot: BOOT, planeUrl: `wss://${id}.test`, site: 's1' }, 600_000);
  writeFileSync(join(directory, 'token'), await bed.token('root'));
});
afterAll(async () => {
  await bed?.close();
  rmSync(directory, { recursive: true, force: true });
});
afterEach(() => vi.restoreAllMocks());

/** What a command writes. */
async function said(noun: Noun, ...args: readonly string[]): Promise<string> {
  let out = '';
  const output = vi.spyOn(process.stdout, 'write').mockImplementation((text) => {
    out += String(text);
    return true;
  });
  try {
    await runOperatorCommand(noun, [...args, '--url', bed.base, '--token-file', join(directory, 'token')]);
  } finally {
    output.mockRestore();
  }
  return out;
}

test('every command of operators answers in one line of JSON, and in words without --json', async () => {
  const file = join(directory, 'pool.json');
  const fresh = {
    name: 'fresh',
    sharing: 'whole',
    anchors: [{ id: 'f1', home: 'r1', endpoints: ['203.0.113.9'], prefixes: ['192.0.2.64/30'] }],
  };
  writeFileSync(file, JSON.stringify(fresh));
  const [kept, ended] = [await bed.grant('acme', 'kept'), await bed.grant('acme', 'ended')];
  const { anchor } = kept;
  const other = anchor === 'a1' ? 'a2' : 'a1';
  const commands: readonly (readonly [Noun, string, ...string[]])[] = [
    [poolNoun, 'add', '--file', file],
    [poolNoun, 'list'],
    [poolNoun, 'show', 'fresh'],
    [poolNoun, 'set', 'fresh', '--file', file],
    [poolNoun, 'grow', 'fresh', '--anchor', 'f1', '--prefix', '192.0.2.72/30'],
    [poolNoun, 'shrink', 'fresh', '--prefix', '192.0.2.64/30'],
    [poolNoun, 'retire', 'fresh'],
    [anchorNoun, 'list'],
    [anchorNoun, 'show', anchor],
    [anchorNoun, 'handover', anchor, '--to', 'r2'],
    [leaseNoun, 'list'],
    [leaseNoun, 'find', kept.address],
    [leaseNoun, 'show', kept.id],
    [leaseNoun, 'revoke', ended.id],
    [relayNoun, 'list'],
    [relayNoun, 'show', 'r1'],
    [relayNoun, 'drain', 'r1'],
    [anchorNoun, 'retire', other],
    [anchorNoun, 'claim', other, '--relay', 'r1'],
  ];
  const tried = commands.map(([noun, verb]) => `${noun.name} ${verb}`);
  const all = NOUNS.flatMap(({ name, verbs }) => Object.keys(verbs).map((verb) => `${name} ${verb}`));
  expect([...tried].sort()).toEqual([...all].sort());
  for (const [noun, verb, ...args] of commands) {
    // Only its present owner could claim it otherwise.
    if (verb === 'claim') await bed.registry.release(other, 'r2', (await bed.registry.owner(other))!.epoch);
    const text = await said(noun, verb, ...args, '--json');
    expect(text, verb).toMatch(/^\{.*\}\n$/);
    expect(Object.keys(JSON.parse(text)), verb).not.toEqual([]);
  }
  expect(await said(leaseNoun, 'show', kept.id)).toMatch(/^lease +a\d\./);
});

test('an SPI that is no number is refused by the name that it was given', async () => {
  await expect(said(leaseNoun, 'find', '198.51.100.1', '--spi', 'many')).rejects.toThrow(/\bmany\b/);
});

test('a pool of more anchors than one request may name grows and shrinks by what is said alone', async () => {
  const anchors = (from: number) =>
    Array.from({ length: 300 }, (_, at) => ({
      id: `a-very-long-name-of-an-anchor-${(from + at) % 100}`.slice(0, 28) + (from + at),
      home: 'r1',
      endpoints: [`2001:db8:ffff::${(from + at).toString(16)}`],
      prefixes: [`2001:db8:0:${(from + at).toString(16)}::/120`],
    }));
  const file = join(directory, 'many.json');
  for (const from of [1, 301]) {
    const pool = { name: 'many', sharing: 'whole', anchors: anchors(from) };
    writeFileSync(file, JSON.stringify(pool));
    await said(poolNoun, from === 1 ? 'add' : 'set', ...(from === 1 ? [] : ['many']), '--file', file);
  }
  const { id } = anchors(301)[17]!;
  await said(poolNoun, 'grow', 'many', '--anchor', id, '--prefix', '2001:db8:1::/124');
  expect((await bed.registry.anchor(id))?.prefixes).toHaveLength(2);
  await said(poolNoun, 'shrink', 'many', '--prefix', '2001:db8:1::/124');
  expect((await bed.registry.anchor(id))?.prefixes).toHaveLength(1);
});
