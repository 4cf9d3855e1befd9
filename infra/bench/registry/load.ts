import { setTimeout as delay } from 'node:timers/promises';
import { monotonicMs } from '../../../src/telemetry/clock.ts';

/** What came of a load: completed operations a second, and how long each took. */
export interface Taken {
  readonly count: number;
  readonly perSecond: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
}

/** Keeps `width` operations under way, for a while or until so many are done. `operate` gets 0, 1, …, each once. */
export async function closedLoop(
  width: number,
  extent: { readonly forMs: number } | { readonly count: number },
  operate: (n: number) => Promise<unknown>,
): Promise<Taken> {
  const { forMs, count } = { forMs: Number.POSITIVE_INFINITY, count: Number.POSITIVE_INFINITY, ...extent };
  const tookMs: number[] = [];
  const fromMs = monotonicMs();
  const untilMs = fromMs + forMs;
  let next = 0;
  await Promise.all(
    Array.from({ length: width }, async () => {
      for (let nowMs = monotonicMs(); nowMs < untilMs && next < count; ) {
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

/** How a load of its own process passes the time until the next operation is due: exact, for a core of its own. */
export const spinning = (): Promise<unknown> => new Promise((resolve) => setImmediate(resolve));
/** Leaves the core to what is measured, and is up to a millisecond late. */
export const sleeping = (): Promise<unknown> => delay(1);

/**
 * Begins `count` operations at a steady rate, whatever becomes of those before: each is timed from when it was due, so
 * waiting behind a slow one counts.
 */
export async function openLoop(
  perSecond: number,
  count: number,
  pause: () => Promise<unknown>,
  operate: (n: number) => Promise<unknown>,
): Promise<Taken> {
  const tookMs: number[] = [];
  const fromMs = monotonicMs();
  const under: Promise<void>[] = [];
  for (let n = 0; n < count; ) {
    const nowMs = monotonicMs();
    for (let dueMs = fromMs + (n * 1000) / perSecond; n < count && dueMs <= nowMs; ) {
      const begunMs = dueMs;
      under.push(operate(n).then(() => void tookMs.push(monotonicMs() - begunMs)));
      n += 1;
      dueMs = fromMs + (n * 1000) / perSecond;
    }
    await pause();
  }
  await Promise.all(under);
  return summed(tookMs, monotonicMs() - fromMs);
}

function summed(tookMs: number[], duringMs: number): Taken {
  tookMs.sort((a, b) => a - b);
  const at = (share: number): number =>
    tookMs[Math.min(tookMs.length - 1, Math.floor(tookMs.length * share))] ?? Number.NaN;
  const count = tookMs.length;
  return { count, perSecond: (count * 1000) / duringMs, p50Ms: at(0.5), p99Ms: at(0.99) };
}
