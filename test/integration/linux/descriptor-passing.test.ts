import { closeSync, fstatSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  createDescriptorChannel,
  giveDescriptors,
  takeDescriptors,
} from '../../../src/linux/descriptor-passing.ts';
import { closeFd } from '../../../src/linux/libc.ts';

describe('descriptors given to another process', () => {
  let folder: string;
  let ends: readonly [number, number];
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'mooring-descriptors-'));
    ends = createDescriptorChannel();
  });
  afterAll(() => {
    for (const end of ends) closeFd(end);
    rmSync(folder, { recursive: true, force: true });
  });

  it('arrive under their names and outlive what was given', () => {
    const names = ['tun', 'udp4', 'udp6'];
    const given = Object.fromEntries(
      names.map((name) => {
        writeFileSync(join(folder, name), `I am ${name}`);
        return [name, openSync(join(folder, name), 'r')];
      }),
    );
    giveDescriptors(ends[0], given);
    for (const fd of Object.values(given)) closeSync(fd);
    const taken = takeDescriptors(ends[1])!;
    expect(Object.keys(taken)).toEqual(names);
    for (const [name, fd] of Object.entries(taken)) {
      expect(readFileSync(fd, 'utf8')).toBe(`I am ${name}`);
      closeSync(fd);
    }
  });

  it('are not inherited by programs that the taker starts', () => {
    const given = openSync(folder, 'r');
    giveDescriptors(ends[0], { folder: given });
    const { folder: fd } = takeDescriptors(ends[1])!;
    const flags = /^flags:\t(\d+)$/m.exec(readFileSync(`/proc/self/fdinfo/${fd}`, 'utf8'))![1]!;
    expect(Number.parseInt(flags, 8) & 0o2000000).not.toBe(0);
    expect(fstatSync(fd!).ino).toBe(fstatSync(given).ino);
    for (const one of [fd!, given]) closeSync(one);
  });

  it('are nothing while nothing was given', () => {
    expect(takeDescriptors(ends[1])).toBeNull();
  });

  it('come in the order and the number they were given in', () => {
    giveDescriptors(ends[0], { a: 0 });
    giveDescriptors(ends[0], { b: 1, c: 2 });
    const first = takeDescriptors(ends[1])!;
    const second = takeDescriptors(ends[1])!;
    expect([Object.keys(first), Object.keys(second)]).toEqual([['a'], ['b', 'c']]);
    for (const fd of [...Object.values(first), ...Object.values(second)]) closeSync(fd);
  });
});
