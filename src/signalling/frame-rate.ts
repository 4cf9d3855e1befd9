/** A token bucket: `burst` at once, `perSecond` in the long run. */
export interface FrameRate {
  /** Takes one; answers 0, or the milliseconds until there is one to take. */
  take(nowMs: number): number;
}

export function createFrameRate(perSecond: number, burst: number): FrameRate {
  let tokens = burst;
  let filledAtMs: number | undefined;
  return {
    take(nowMs) {
      tokens = Math.min(burst, tokens + ((nowMs - (filledAtMs ?? nowMs)) * perSecond) / 1000);
      filledAtMs = nowMs;
      if (tokens < 1) return Math.max(1, Math.ceil(((1 - tokens) * 1000) / perSecond));
      tokens -= 1;
      return 0;
    },
  };
}
