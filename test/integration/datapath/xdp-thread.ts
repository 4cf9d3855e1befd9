import { workerData } from 'node:worker_threads';
import koffi from 'koffi';
import { bpfMap, elementBytes } from '../../../src/linux/bpf-map.ts';
import { createXdpRunner } from '../../../src/linux/bpf-run.ts';

/**
 * A thread beside a test's own: `runs` frames through a program on a CPU of its own, or flips a way as fast as it is
 * asked to until it is told to stop. Descriptors are the process's; the network namespace is that of the thread that started it.
 */

export interface FrameWork {
  readonly kind: 'runs';
  readonly cpu: number;
  readonly program: number;
  readonly ifindex: number;
  readonly frames: readonly Uint8Array[];
  /** Number of frames that were let on. */
  readonly told: SharedArrayBuffer;
}

export interface FlipWork {
  readonly kind: 'flips';
  readonly ways: number;
  readonly perSecond: number;
  /** Offsets in an element. */
  readonly gen: number;
  readonly places: readonly [number, number];
  /** Octets of `struct path`, taken in turn. */
  readonly paths: readonly Uint8Array[];
  /** [0] 1 when it is to stop, [1] flips so far. */
  readonly told: SharedArrayBuffer;
}

const libc = koffi.load(null);
const work = workerData as FrameWork | FlipWork;
if (work.kind === 'runs') runFrames(work);
else flip(work);

function runFrames({ cpu, program, ifindex, frames, told }: FrameWork): void {
  const setAffinity = libc.func('int sched_setaffinity(int pid, size_t octets, void *mask)');
  setAffinity(0, 8, Uint8Array.of(1 << cpu, 0, 0, 0, 0, 0, 0, 0));
  const runner = createXdpRunner(program);
  const done = new Int32Array(told);
  // Both threads begin together: what they race for would be over before the second one is up.
  Atomics.add(done, 0, 1);
  const until = performance.now() + 20_000;
  while (Atomics.load(done, 0) < 2 && performance.now() < until);
  for (const frame of frames) {
    if (runner.run(frame, { ifindex }).verdict === 'redirect') Atomics.add(done, 1, 1);
  }
}

function flip({ ways, perSecond, gen, places, paths, told }: FlipWork): void {
  const map = bpfMap(ways);
  const octets = new Uint8Array(map.mapped());
  const generations = new BigUint64Array(map.mapped(), 0, (elementBytes(map.info) * map.info.maxEntries) / 8);
  const state = new Int32Array(told);
  const started = performance.now();
  let flips = 0;
  while (Atomics.load(state, 0) === 0) {
    const due = ((performance.now() - started) / 1000) * perSecond;
    for (; flips < due; flips += 1) {
      const next = Atomics.load(generations, gen / 8) + 1n;
      octets.set(paths[flips % paths.length]!, places[Number(next & 1n)]!);
      Atomics.store(generations, gen / 8, next);
    }
    Atomics.store(state, 1, flips);
  }
}
