import { monotonicMs } from '../../../src/telemetry/clock.ts';

/** What came of a load: completed operations a second, and how long each took. */
export interface Taken {
  readonly perSecond: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
}

/** Keeps `width` operations under way for `forMs`. `operate` gets numbers that rise from 0, each once. */
export async function closedLoop(
  width: number,
  forMs: number,
  operate: (n: number) => Promise<unknown>,
): Promise<Taken> {
  const tookMs: number[] = [];
  const fromMs = monotonicMs();
  const untilMs = fromMs + forMs;
  let next = 0;
  await Promise.all(
    Array.from({ length: width }, async () => {
      for (let nowMs = monotonicMs(); nowMs < untilMs; ) {
        const n = next;
        next += 1;
        await operate(n);
        const doneMs = monotonicMs();
        tookMs.push(doneMs - nowMs);
        nowMs = doneMs;
      }
    }),
  );
  return summed(tookMs, monotonicMs() - fromMs);
}

/**
 * Begins operations at a steady rate, whatever becomes of those before: each is timed from when it was due, so waiting
 * behind a slow one counts.
 */
export async function openLoop(
  perSecond: number,
  forMs: number,
  operate: (n: number) => Promise<unknown>,
): Promise<Taken> {
  const tookMs: number[] = [];
  const fromMs = monotonicMs();
  const total = Math.floor((perSecond * forMs) / 1000);
  const under: Promise<void>[] = [];
  for (let n = 0; n < total; ) {
    const nowMs = monotonicMs();
    for (let dueMs = fromMs + (n * 1000) / perSecond; n < total && dueMs <= nowMs; ) {
      const begunMs = dueMs;
      under.push(operate(n).then(() => void tookMs.push(monotonicMs() - begunMs)));
      n += 1;
      dueMs = fromMs + (n * 1000) / perSecond;
    }
    await new Promise((resolve) => setImmediate(resolve));
  }
  await Promise.all(under);
  return summed(tookMs, monotonicMs() - fromMs);
}

/** Carries out 0 … count − 1 with `width` under way; how long all of it took, milliseconds. */
export async function all(
  count: number,
  width: number,
  operate: (n: number) => Promise<unknown>,
): Promise<number> {
  const fromMs = monotonicMs();
  let next = 0;
  await Promise.all(
    Array.from({ length: width }, async () => {
      while (next < count) {
        const n = next;
        next += 1;
        await operate(n);
      }
    }),
  );
  return monotonicMs() - fromMs;
}

function summed(tookMs: number[], duringMs: number): Taken {
  tookMs.sort((a, b) => a - b);
  const at = (share: number): number =>
    tookMs[Math.min(tookMs.length - 1, Math.floor(tookMs.length * share))]!;
  return { perSecond: (tookMs.length * 1000) / duringMs, p50Ms: at(0.5), p99Ms: at(0.99) };
}
