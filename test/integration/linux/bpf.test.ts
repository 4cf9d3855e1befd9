import { afterAll, beforeAll, expect, it } from 'vitest';
import { compileXdp } from '../../../infra/build/xdp.ts';
import { elementBytes, MAP_TYPE, possibleCpus } from '../../../src/linux/bpf-map.ts';
import { type BpfObject, loadBpfObject } from '../../../src/linux/bpf-object.ts';
import { parseBtf, readBtf } from '../../../src/linux/btf.ts';
import { afterGracePeriod, waitGracePeriod } from '../../../src/linux/grace-period.ts';
import { describeAsRoot } from './own-namespace.ts';

describeAsRoot('BPF objects', () => {
  let object: BpfObject;
  beforeAll(() => {
    object = loadBpfObject(compileXdp(), { entries: { sessions: 100, index: 8 } });
  });
  afterAll(() => object.close());

  it('have maps of the sizes that were asked for', () => {
    const { sessions, index, counters } = object.maps;
    expect(sessions!.info).toMatchObject({ type: MAP_TYPE.array, maxEntries: 100, name: 'sessions' });
    expect(index!.info).toMatchObject({ type: MAP_TYPE.hash, maxEntries: 8, keyBytes: 24, valueBytes: 8 });
    expect(counters!.info.type).toBe(MAP_TYPE.percpuArray);
  });

  it('refuse sizes of maps that they do not have, and octets that are no object', () => {
    expect(() => loadBpfObject(compileXdp(), { entries: { nothing: 1 } })).toThrow(
      expect.objectContaining({ code: 'ERR_MOORING_XDP_UNAVAILABLE' }),
    );
    expect(() => loadBpfObject(new Uint8Array(100))).toThrow(
      expect.objectContaining({ code: 'ERR_MOORING_SYSCALL' }),
    );
  });

  it('say where members lie, by path', () => {
    const session = object.btf.struct('session');
    expect(session.size).toBe(object.maps.sessions!.info.valueBytes);
    const { offset, stride } = session.at('receive');
    expect(session.at('receive[1].key').offset).toBe(
      offset + stride + object.btf.struct('receive_key').at('key').offset,
    );
    expect(session.at('leases[1].address')).toMatchObject({ size: 16, count: 16, stride: 1 });
    expect(session.find('receive[2]')).toBeNull();
    expect(session.find('nothing')).toBeNull();
    expect(() => session.at('nothing')).toThrow(expect.objectContaining({ code: 'ERR_MOORING_BTF' }));
    expect(object.btf.enumeration('count_group').get('GROUP_UPLINK')).toBe(1);
    expect(object.btf.findEnumeration('nothing')).toBeNull();
    expect(readBtf(object.maps.ways!.info.btfId).struct('way').size).toBe(object.btf.struct('way').size);
    expect(() => parseBtf(new Uint8Array(64))).toThrow(expect.objectContaining({ code: 'ERR_MOORING_BTF' }));
  });

  it('keep what is put into a hash until it is deleted, and say when it is full', () => {
    const index = object.maps.index!;
    const keys = Array.from({ length: 8 }, (_, i) => new Uint8Array(24).fill(i + 1));
    const value = Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8);
    const into = new Uint8Array(8);
    for (const key of keys) expect(index.update(key, value, { only: 'new' })).toBe(true);
    expect(index.update(keys[0]!, value, { only: 'new' })).toBe(false);
    expect(() => index.update(new Uint8Array(24), value)).toThrow(
      expect.objectContaining({ code: 'ERR_MOORING_SYSCALL' }),
    );
    expect([...index.keys()].map((key) => key[0]).sort()).toEqual([1, 2, 3, 4, 5, 6, 7, 8]);
    expect(index.lookup(keys[3]!, into)).toBe(true);
    expect(into).toEqual(value);
    for (const key of keys) expect(index.delete(key)).toBe(true);
    expect(index.delete(keys[0]!)).toBe(false);
    expect(index.lookup(keys[0]!, into)).toBe(false);
    expect(index.update(keys[0]!, value, { only: 'existing' })).toBe(false);
  });

  it('share the memory of an array with the process', () => {
    const sessions = object.maps.sessions!;
    const memory = new Uint8Array(sessions.mapped());
    expect(sessions.mapped()).toBe(sessions.mapped());
    const octets = new Uint8Array(sessions.info.valueBytes);
    memory[7 * elementBytes(sessions.info) + 3] = 42;
    sessions.lookupAt(7, octets);
    expect(octets[3]).toBe(42);
    octets[3] = 43;
    sessions.updateAt(7, octets);
    expect(memory[7 * elementBytes(sessions.info) + 3]).toBe(43);
    expect(() => sessions.updateAt(100, octets)).toThrow(
      expect.objectContaining({ code: 'ERR_MOORING_SYSCALL' }),
    );
  });

  it('copy locked values whole, and one value for each CPU', () => {
    const windows = object.maps.windows!;
    const window = new Uint8Array(windows.info.valueBytes).fill(0xaa, 4);
    windows.updateAt(0, window, { locked: true });
    const into = new Uint8Array(windows.info.valueBytes);
    windows.lookupAt(0, into, { locked: true });
    expect(into).toEqual(window);
    const perCpu = new Uint8Array(8 * possibleCpus());
    expect(object.maps.counters!.lookupAt(0, perCpu)).toBe(true);
  });

  it('are left by every program that ran before a grace period', async () => {
    waitGracePeriod();
    const error = await new Promise((resolve) => afterGracePeriod(resolve));
    expect(error).toBeNull();
  });
});
