import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';

interface Outcome {
  readonly before: string;
  readonly once: string;
  readonly twice: string;
  readonly moved: string;
  readonly restored: string;
  readonly conflict: string;
  readonly foreignStays: boolean;
}

const isRoot = process.geteuid?.() === 0;

describe.skipIf(!isRoot)("the laptop's changes to the machine (needs root: network namespaces)", () => {
  let outcome: Outcome;

  beforeAll(() => {
    const script = join(import.meta.dirname, 'change-log-steps.ts');
    const text = execFileSync('unshare', ['--net', '--mount', process.execPath, '--import', 'tsx', script], {
      encoding: 'utf8',
      timeout: 50_000,
      maxBuffer: 64 << 20,
    });
    outcome = JSON.parse(text) as Outcome;
  });

  test('a new process goes on with what the one before made, without a difference', () => {
    expect(outcome.once).not.toBe(outcome.before);
    expect(outcome.twice).toBe(outcome.once);
  });

  test('a plan that changed leaves nothing of the former one', () => {
    expect(outcome.once).toContain('198.51.100.77');
    expect(outcome.moved).toContain('198.51.100.99');
    expect(outcome.moved).not.toContain('198.51.100.77');
    expect(outcome.moved).not.toContain('203.0.113.0/24');
    expect(outcome.restored).toBe(outcome.before);
  });

  test('what exists and is not ours is refused by name, and left alone', () => {
    expect(outcome.conflict).toMatch(/tun moor0 exists already and is not the agent's; remove it, or choose/);
    expect(outcome.foreignStays).toBe(true);
  });
});
