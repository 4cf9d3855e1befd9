import { execFileSync } from 'node:child_process';
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { watchLeaseFiles } from '../../../clients/laptop/lease-files.ts';
import { filledTemplate } from '../../../clients/laptop/lease-template.ts';
import type { Lease } from '../../../src/protocol/lease.ts';

const SHARED = {
  id: 'shared-1.x',
  address: '198.51.100.21',
  ports: { first: 2048, count: 1024 },
  spis: { first: 0x1000, count: 4 },
} as Lease;
const WHOLE = { ...SHARED, ports: null, spis: null } as Lease;
const shipped = (name: string) =>
  readFileSync(new URL(`../../../infra/templates/${name}`, import.meta.url), 'utf8');

let dir: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'mooring-template-'));
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

describe('a template', () => {
  test("has the lease's values in the place of their names; a whole address has all ports and SPIs", () => {
    const text = '{{lease}} {{ address }} {{ports.first}}-{{ports.last}} {{spis.first}}-{{spis.last}} {x}';
    expect(filledTemplate(text, SHARED, 't')).toBe(
      'shared-1.x 198.51.100.21 2048-3071 0x00001000-0x00001003 {x}',
    );
    expect(filledTemplate(text, WHOLE, 't')).toContain('1024-65535 0x00000100-0xffffffff');
  });

  test('that names what there is not, or what the lease has not, is refused with what there is', () => {
    expect(() => filledTemplate('{{spi}}', SHARED, '/etc/t')).toThrow(
      /\/etc\/t: \{\{spi\}\} stands for nothing; use one of lease, address,/,
    );
    expect(() => filledTemplate('{{spis.first}}', { ...SHARED, spis: null }, 't')).toThrow(
      /lease a kind that has it/,
    );
  });

  test('for libreswan speaks from the leased address and a leased port', () => {
    const text = filledTemplate(shipped('libreswan.conf'), SHARED, 't');
    expect(text).toContain('left=198.51.100.21\n    leftikeport=2048\n');
  });

  test("for `ip xfrm` numbers associations with the lease's SPIs, and ends where they end", () => {
    const script = join(dir, 'ip-xfrm.sh');
    writeFileSync(script, filledTemplate(shipped('ip-xfrm.sh'), SHARED, 't'));
    writeFileSync(join(dir, 'ip'), '#!/bin/sh\necho "$@"\n');
    chmodSync(join(dir, 'ip'), 0o755);
    const associate = (number: number) =>
      execFileSync('sh', [script, String(number), '203.0.113.9', '0xabcd1234', '0x01', '0x02'], {
        encoding: 'utf8',
        env: { PATH: `${dir}:${process.env.PATH}` },
        stdio: 'pipe',
      });
    expect(associate(3).split('\n')).toEqual([
      expect.stringContaining('src 203.0.113.9 dst 198.51.100.21 proto esp spi 4099 '),
      expect.stringContaining('src 198.51.100.21 dst 203.0.113.9 proto esp spi 0xabcd1234 '),
      '',
    ]);
    expect(() => associate(4)).toThrow(/SPIs for the numbers 0 to 3/);
  });
});

describe('a program that lives by a file of the lease', () => {
  test('is told when it has changed, and only then; what went wrong is said in its own words', async () => {
    const file = (name: string) => join(dir, name);
    for (const name of ['same', 'other', 'broken', 'quiet']) writeFileSync(file(name), 'before');
    const tell = (name: string, ...reload: string[]) => ({ template: '-', file: file(name), reload });
    const reload = watchLeaseFiles({
      charon: { file: file('other'), reload: ['touch', file('told')] },
      templates: [
        tell('same', 'touch', file('told-in-vain')),
        tell('broken', 'sh', '-c', 'echo connecting failed >&2; exit 1'),
        tell('quiet'),
        tell('absent', '/nowhere/reload'),
      ],
    });
    for (const name of ['other', 'broken', 'quiet', 'absent']) writeFileSync(file(name), 'after');
    expect(await reload()).toEqual([
      'sh -c echo connecting failed >&2; exit 1: connecting failed',
      expect.stringMatching(/^\/nowhere\/reload: .*ENOENT/),
    ]);
    expect(readFileSync(file('told'), 'utf8')).toBe('');
    expect(() => readFileSync(file('told-in-vain'))).toThrow();
  });
});
