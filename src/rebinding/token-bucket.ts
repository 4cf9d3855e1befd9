/** Bounds a rate: `take` says whether one more is allowed now. */
export interface TokenBucket {
  take(nowMs: number): boolean;
}

/** Starts full with `burst` tokens and gains `perSecond`, never above `burst`. */
export function createTokenBucket(burst: number, perSecond: number): TokenBucket {
  let tokens = burst;
  let filledMs: number | null = null;
  return {
    take(nowMs) {
      if (filledMs !== null) tokens = Math.min(burst, tokens + ((nowMs - filledMs) * perSecond) / 1000);
      filledMs = nowMs;
      if (tokens < 1) return false;
      tokens -= 1;
      return true;
    },
  };
}
