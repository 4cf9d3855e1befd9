/** What a closed socket says about coming back. */
export type ReconnectRule = 'at-once' | 'after-a-wait' | 'never';

/**
 * The rule that a WebSocket close code carries: 4000–4099 at once, 4200–4299 never (something has to change
 * first), everything else, and so a lost network (1006), after a wait.
 */
export function reconnectRule(closeCode: number): ReconnectRule {
  if (closeCode >= 4000 && closeCode < 4100) return 'at-once';
  if (closeCode >= 4200 && closeCode < 4300) return 'never';
  return 'after-a-wait';
}

export interface BackOff {
  /** Ceiling of the first wait, milliseconds. */
  readonly firstMs: number;
  /** Ceiling of every later wait, milliseconds. */
  readonly longestMs: number;
}

/**
 * Milliseconds to wait before attempt `failures + 1`: between half of and the whole of a ceiling that doubles
 * with each failure, so that devices which lost the same server do not return together.
 */
export function backOffMs(failures: number, backOff: BackOff, random: () => number): number {
  const ceilingMs = Math.min(backOff.longestMs, backOff.firstMs * 2 ** Math.min(failures, 30));
  return ceilingMs * (0.5 + random() / 2);
}
