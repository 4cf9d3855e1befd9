/**
 * How long this machine kept the demo waiting for a processor: a short timer runs all the time, and what it is late by is
 * what anything else here may have been late by too. On a machine of its own that is a few milliseconds.
 */
export interface StallMeter {
  /** Stops, and returns the longest stall since the start, milliseconds. */
  stop(): number;
}

const EVERY_MS = 2;

export function startStallMeter(nowMs: () => number): StallMeter {
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
      return longestMs;
    },
  };
}
