import { readFileSync } from 'node:fs';

/**
 * How long this machine kept the demo waiting for a processor: a short timer runs all the time, and what it is late by is
 * what anything else here may have been late by too. Where the machine is a guest, its host's part is counted for every
 * processor: what was taken from another process was not taken from this timer. On a machine of its own all that is a few
 * milliseconds.
 */
export interface StallMeter {
  /** Stops, and returns the longest stall since the start and what the host took meanwhile, milliseconds. */
  stop(): number;
}

const EVERY_MS = 2;
/** `USER_HZ`: hundredths of a second. */
const TICK_MS = 10;

export function startStallMeter(nowMs: () => number): StallMeter {
  const stolenBeforeMs = stolenMs();
  let lastMs = nowMs();
  let longestMs = 0;
  const look = () => {
    const now = nowMs();
    longestMs = Math.max(longestMs, now - lastMs - EVERY_MS);
    lastMs = now;
  };
  const timer = setInterval(look, EVERY_MS);
  return {
    stop() {
      clearInterval(timer);
      look();
      return longestMs + stolenMs() - stolenBeforeMs;
    },
  };
}

/** Time that the host has given to others while a processor of this guest was to run, all processors together (proc(5)). */
function stolenMs(): number {
  const [, steal = '0'] = /^cpu +(?:\d+ ){7}(\d+)/.exec(readFileSync('/proc/stat', 'utf8')) ?? [];
  return Number(steal) * TICK_MS;
}
