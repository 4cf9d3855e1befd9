import {
  lstatSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { formerFile, putBack, readWholeFile, replaceFile } from '../../../clients/laptop/replaced-file.ts';

const OURS = 'nameserver 192.0.2.53\n';

describe('a file that is replaced for a while', () => {
  let dir: string;
  let path: string;

  beforeEach(() => {
    dir = mkdtempSync(join(tmpdir(), 'mooring-file-'));
    path = join(dir, 'resolv.conf');
  });
  afterEach(() => rmSync(dir, { recursive: true, force: true }));

  test('comes back as it was', () => {
    writeFileSync(path, 'nameserver 203.0.113.53\n');
    const former = formerFile(path);
    replaceFile(path, OURS);
    expect(readWholeFile(path)).toBe(OURS);
    putBack(path, OURS, former);
    expect(readFileSync(path, 'utf8')).toBe('nameserver 203.0.113.53\n');
  });

  test('that was a symbolic link is that link again, and what it points to was not touched', () => {
    writeFileSync(join(dir, 'stub'), 'nameserver 127.0.0.53\n');
    symlinkSync('stub', path);
    const former = formerFile(path);
    replaceFile(path, OURS);
    expect(lstatSync(path).isSymbolicLink()).toBe(false);
    expect(readFileSync(join(dir, 'stub'), 'utf8')).toBe('nameserver 127.0.0.53\n');
    putBack(path, OURS, former);
    expect(readlinkSync(path)).toBe('stub');
  });

  test('that was not there is not there', () => {
    replaceFile(path, OURS);
    putBack(path, OURS, null);
    expect(formerFile(path)).toBeNull();
  });

  test('leaves nothing of a replacement that was cut short', () => {
    replaceFile(path, OURS);
    writeFileSync(`${path}.mooring`, 'half');
    putBack(path, OURS, null);
    expect(readdirSync(dir)).toEqual([]);
  });

  test('that somebody wrote to since then keeps what they wrote', () => {
    writeFileSync(path, 'nameserver 203.0.113.53\n');
    const former = formerFile(path);
    replaceFile(path, OURS);
    writeFileSync(path, 'nameserver 198.51.100.53\n');
    putBack(path, OURS, former);
    expect(readFileSync(path, 'utf8')).toBe('nameserver 198.51.100.53\n');
  });
});
