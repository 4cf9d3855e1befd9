/** What happened to a flow within a window of time, from the receivers' own sequence numbers. Pure. */

export interface ReceivedPacket {
  readonly sequence: number;
  readonly sentMs: number;
  readonly receivedMs: number;
}

export interface DirectionTrace {
  /** When each sequence number was sent; the index is the sequence number. */
  readonly sentMs: readonly number[];
  /** In the order of arrival. */
  readonly received: readonly ReceivedPacket[];
}

export interface Window {
  readonly fromMs: number;
  readonly toMs: number;
}

export interface WindowReport {
  /** Packets sent within the window. */
  readonly sent: number;
  /** Of those, the ones that arrived at least once, whenever. */
  readonly received: number;
  readonly lost: number;
  /** Arrivals beyond the first of a packet. */
  readonly duplicated: number;
  /** Packets that arrived behind one with a higher sequence number. */
  readonly reordered: number;
  /** Longest time without any arrival that touches the window. */
  readonly gapMs: number;
  /** When that silence ended; the window's end when it did not. */
  readonly gapEndedMs: number;
  /** Median of the one-way delays; NaN if nothing arrived. */
  readonly delayMs: number;
}

/**
 * Counts by the time of sending, so packets in flight at either edge belong to exactly one window and count as received
 * when they arrive later: read the trace a little after the window ended.
 */
export function analyseWindow(trace: DirectionTrace, { fromMs, toMs }: Window): WindowReport {
  const within = (timeMs: number) => timeMs >= fromMs && timeMs < toMs;
  let sent = 0;
  trace.sentMs.forEach((sentMs) => {
    if (within(sentMs)) sent += 1;
  });

  const seen = new Set<number>();
  const delays: number[] = [];
  let duplicated = 0;
  let reordered = 0;
  let highest = -1;
  let previousArrivalMs: number | undefined;
  let gapMs = 0;
  let gapEndedMs = toMs;
  const silence = (sinceMs: number, untilMs: number) => {
    if (untilMs - sinceMs <= gapMs) return;
    gapMs = untilMs - sinceMs;
    gapEndedMs = untilMs;
  };
  let lastArrivalMs: number | undefined;
  for (const { sequence, sentMs, receivedMs } of trace.received) {
    if (previousArrivalMs !== undefined && receivedMs >= fromMs && previousArrivalMs <= toMs) {
      silence(previousArrivalMs, receivedMs);
    }
    previousArrivalMs = receivedMs;
    lastArrivalMs = receivedMs;
    if (within(sentMs)) {
      if (seen.has(sequence)) {
        duplicated += 1;
      } else {
        seen.add(sequence);
        delays.push(receivedMs - sentMs);
        if (sequence < highest) reordered += 1;
      }
    }
    highest = Math.max(highest, sequence);
  }
  // Silence that lasts until the end of the window has no arrival to end it.
  if (sent > 0 && (lastArrivalMs === undefined || lastArrivalMs < toMs)) {
    silence(Math.max(lastArrivalMs ?? fromMs, fromMs), toMs);
  }
  delays.sort((a, b) => a - b);
  return {
    sent,
    received: seen.size,
    lost: sent - seen.size,
    duplicated,
    reordered,
    gapMs,
    gapEndedMs,
    delayMs: delays[Math.floor(delays.length / 2)] ?? Number.NaN,
  };
}

/** Both directions of a flow as one: counts added, the larger gap and the larger delay. */
export function together(a: WindowReport, b: WindowReport): WindowReport {
  return {
    sent: a.sent + b.sent,
    received: a.received + b.received,
    lost: a.lost + b.lost,
    duplicated: a.duplicated + b.duplicated,
    reordered: a.reordered + b.reordered,
    gapMs: Math.max(a.gapMs, b.gapMs),
    gapEndedMs: a.gapMs >= b.gapMs ? a.gapEndedMs : b.gapEndedMs,
    delayMs: Math.max(a.delayMs, b.delayMs),
  };
}
