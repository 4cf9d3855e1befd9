import { readFileSync } from 'node:fs';

/**
 * How long this machine kept the demo waiting for a processor: a short timer runs all the time, and what it is late by is
 * what anything else here may have been late by too. A move is many steps of several processes, each of which may have to
 * wait: what counts is the sum of the stalls while one lasts. Where the machine is a guest, its host's part is counted for
 * every processor: what was taken from another process was not taken from this timer. On a machine of its own all that is
 * a few milliseconds.
 */
export interface StallMeter {
  /** Stops, and returns the most stalls within `MOVE_MS` since the start and what the host took meanwhile, milliseconds. */
  stop(): number;
}

const EVERY_MS = 2;
/** Timers of a machine that has nothing else to do are late by less. */
const LATE_MS = 1;
/** What a move lasts, with some room. */
const MOVE_MS = 250;
/** `USER_HZ`: hundredths of a second. */
const TICK_MS = 10;

export function startStallMeter(nowMs: () => number): StallMeter {
  const stolenBeforeMs = stolenMs();
  const stalls: { readonly atMs: number; readonly ms: number }[] = [];
  let lastMs = nowMs();
  let mostMs = 0;
  const look = () => {
    const now = nowMs();
    const lateMs = now - lastMs - EVERY_MS;
    lastMs = now;
    if (lateMs < LATE_MS) return;
    stalls.push({ atMs: now, ms: lateMs });
    while (stalls[0]!.atMs < now - MOVE_MS) stalls.shift();
    const sumMs = stalls.reduce((sum, { ms }) => sum + ms, 0);
    mostMs = Math.max(mostMs, sumMs);
  };
  const timer = setInterval(look, EVERY_MS);
  return {
    stop() {
      clearInterval(timer);
      look();
      return mostMs + stolenMs() - stolenBeforeMs;
    },
  };
}

/** Time that the host has given to others while a processor of this guest was to run, all processors together (proc(5)). */
function stolenMs(): number {
  const [, steal = '0'] = /^cpu +(?:\d+ ){7}(\d+)/.exec(readFileSync('/proc/stat', 'utf8')) ?? [];
  return Number(steal) * TICK_MS;
}
