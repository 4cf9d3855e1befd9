import { spawnSync } from 'node:child_process';
import { accessSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';

const ANALYZE = '/usr/bin/systemd-analyze';
const folder = mkdtempSync(join(tmpdir(), 'mooring-units-'));
afterAll(() => rmSync(folder, { recursive: true }));

function isThere(path: string): boolean {
  try {
    accessSync(path);
    return true;
  } catch {
    return false;
  }
}

describe.skipIf(!isThere(ANALYZE))('systemd', () => {
  it.each(['mooring.service', 'mooring-device.service'])('takes every line of %s', (unit) => {
    const text = readFileSync(new URL(`../../../infra/systemd/${unit}`, import.meta.url), 'utf8');
    const file = join(folder, unit);
    writeFileSync(file, text.replace('/usr/bin/mooring', process.execPath));
    const { stdout, stderr } = spawnSync(ANALYZE, ['verify', '--man=no', file], { encoding: 'utf8' });
    // It also says what is wrong with other units of the machine.
    expect(`${stdout}${stderr}`.split('\n').filter((line) => line.includes(unit))).toEqual([]);
  });
});
