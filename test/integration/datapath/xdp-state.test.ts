import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { Worker } from 'node:worker_threads';
import { afterAll, beforeAll, beforeEach, expect, it } from 'vitest';
import { seededRandom } from '../../../infra/lab/seeded-random.ts';
import { typescriptLoader } from '../../../src/linux/packet-worker.ts';
import { openData } from '../../../src/tunnel/data.ts';
import { sipKey } from '../../../src/tunnel/siphash.ts';
import { ReplayWindow } from '../../../src/tunnel/window.ts';
import { DATA, WINDOW_SIZE } from '../../../src/tunnel/wire.ts';
import { esp, ip } from '../../unit/datapath/packets.ts';
import { describeAsRoot, until } from '../linux/own-namespace.ts';
import {
  BED,
  createBed,
  DEVICE_PORT,
  frameOf,
  mapped,
  putSession,
  putWhole,
  type XdpBed,
} from './xdp-bed.ts';
import type { FlipWork, FrameWork } from './xdp-thread.ts';
import { DOWNLINK_KEY, fromDevice, outerOf, UPLINK_KEY } from './xdp-traffic.ts';

const PACKET = ip(BED[4].whole, BED[4].peer, 50, esp(1));

describeAsRoot('what the XDP program keeps', () => {
  let bed: XdpBed;
  beforeAll(() => {
    bed = createBed();
  });
  afterAll(() => bed.close());
  beforeEach(() => {
    putSession(bed, { outer: 4, uplinkKey: UPLINK_KEY, downlinkKey: DOWNLINK_KEY });
    putWhole(bed, BED[4].whole);
    emptyWindow();
  });

  it('remembers sequences as the golden windows do', () => {
    const { windows } = JSON.parse(
      readFileSync(new URL('../../vectors/tunnel.json', import.meta.url), 'utf8'),
    ) as { windows: readonly { received: string; refused: string; admitted: string; highest: number }[] };
    for (const { received, refused, admitted, highest } of windows) {
      const receive = () => {
        emptyWindow();
        for (const sequence of numbers(received)) admits(sequence);
      };
      receive();
      for (const sequence of numbers(refused))
        expect(admits(sequence), `${received}, then ${sequence}`).toBe(false);
      expect(highestOf()).toBe(highest);
      for (const sequence of numbers(admitted)) {
        receive();
        expect(admits(sequence), `${received}, then ${sequence}`).toBe(true);
      }
    }
  });

  it('remembers sequences exactly as the userspace engine does, whatever their order', () => {
    const seed = Date.now() % 2 ** 31;
    const random = seededRandom(seed);
    for (let round = 0; round < 12; round += 1) {
      emptyWindow();
      const model = new ReplayWindow();
      let around = 1 + Math.floor(random() * 10_000);
      for (let i = 0; i < 700; i += 1) {
        const step = random();
        if (step < 0.02) around += Math.floor(random() * 3 * WINDOW_SIZE);
        else if (step < 0.3) around += Math.floor(random() * 130);
        const back = random() < 0.5 ? Math.floor(random() * 70) : Math.floor(random() * (WINDOW_SIZE + 20));
        const sequence = random() < 0.5 ? around : Math.max(0, around - back);
        const expected = model.admits(sequence);
        if (expected) model.commit(sequence);
        expect(admits(sequence), `seed ${seed}, round ${round}, packet ${i}: ${sequence} of ${around}`).toBe(
          expected,
        );
      }
    }
  });

  it('admits every number once, on two CPUs at the same time', async () => {
    const distinct = 4_000;
    const sequences = Array.from({ length: distinct }, (_, i) => i + 1);
    const frames = sequences.map((sequence) => fromDevice(PACKET, { sequence }));
    const told = new SharedArrayBuffer(8);
    const works = [0, 1].map(
      (cpu): FrameWork => ({
        kind: 'runs',
        cpu,
        program: bed.object.program('relay'),
        ifindex: bed.links.access,
        frames,
        told,
      }),
    );
    // A thread is born into the namespace of the one that makes it.
    await Promise.all(bed.network.run(() => works.map(finished)));
    expect(new Int32Array(told)[1]).toBe(distinct);
    expect(highestOf()).toBe(distinct);
  });

  it('sends nothing by a wrong way at 50,000 flips a second', async () => {
    const struct = bed.object.btf.struct('path');
    const way = bed.object.btf.struct('way');
    // Address, port, key and key number all say which way it is: a mixture of two would show.
    const ways = Array.from({ length: 8 }, (_, i) => {
      const octets = new Uint8Array(struct.size);
      const view = new DataView(octets.buffer);
      const key = new Uint8Array(16).fill(i + 1);
      octets.set(mapped(i % 2 === 0 ? BED[4].device : BED[4].moved), struct.at('address').offset);
      octets.set(key, struct.at('key').offset);
      view.setUint32(struct.at('key_number').offset, i, true);
      view.setUint16(struct.at('port').offset, DEVICE_PORT + i, true);
      octets[struct.at('family').offset] = 4;
      return {
        octets,
        key: sipKey(key),
        address: i % 2 === 0 ? BED[4].device : BED[4].moved,
        port: DEVICE_PORT + i,
      };
    });
    const told = new SharedArrayBuffer(8);
    const state = new Int32Array(told);
    const done = finished({
      kind: 'flips',
      ways: bed.object.maps.ways!.fd,
      perSecond: 50_000,
      gen: way.at('gen').offset,
      places: [way.at('paths[0]').offset, way.at('paths[1]').offset],
      paths: ways.map(({ octets }) => octets),
      told,
    } satisfies FlipWork);
    await until('the flips begin', () => Atomics.load(state, 1) > 0, 20_000);
    const frame = frameOf('public', ip(BED[4].peer, BED[4].whole, 50, esp(1)));
    const before = Atomics.load(state, 1);
    const started = performance.now();
    const used = new Set<string>();
    let sent = 0;
    let seen = 0;
    while (performance.now() - started < 3_000) {
      seen += 1;
      const run = bed.run('public', frame);
      if (run.verdict !== 'redirect') continue;
      sent += 1;
      const { destination, destinationPort, datagram } = outerOf(run.frame, 4);
      const of = ways[destinationPort - DEVICE_PORT]!;
      expect(destination).toBe(of.address);
      expect((datagram[0]! >> 2) & 3).toBe((destinationPort - DEVICE_PORT) & 3);
      expect(openData(of.key, datagram, 0, datagram.length)).toBe(DATA.inner);
      used.add(`${destinationPort}`);
    }
    const flips = Atomics.load(state, 1) - before;
    Atomics.store(state, 0, 1);
    await done;
    expect(flips, 'flips in three seconds').toBeGreaterThan(100_000);
    expect(sent).toBeGreaterThan(1_000);
    expect(sent / seen, 'share that was read at once').toBeGreaterThan(0.99);
    expect(used.size).toBe(ways.length);
  });

  function emptyWindow(): void {
    bed.object.maps.windows!.updateAt(0, new Uint8Array(520), { locked: true });
  }

  function admits(sequence: number): boolean {
    return bed.run('access', fromDevice(PACKET, { sequence })).verdict === 'redirect';
  }

  function highestOf(): number {
    const octets = new Uint8Array(520);
    bed.object.maps.windows!.lookupAt(0, octets, { locked: true });
    return new DataView(octets.buffer).getUint32(bed.object.btf.struct('window').at('highest').offset, true);
  }
});

async function finished(work: FrameWork | FlipWork): Promise<void> {
  const worker = new Worker(new URL('./xdp-thread.ts', import.meta.url), {
    workerData: work,
    execArgv: typescriptLoader(),
  });
  await once(worker, 'exit');
}

function numbers(text: string): number[] {
  return text.split(' ').map(Number);
}
