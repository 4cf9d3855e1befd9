import { describe, expect, it } from 'vitest';
import { analyseWindow, type DirectionTrace, together } from '../../../infra/lab/analysis.ts';

/** One packet each 2 ms from time 0, each 10 ms on its way. */
function steadyTrace(count: number): { sentMs: number[]; received: DirectionTrace['received'][number][] } {
  const sentMs = Array.from({ length: count }, (_, sequence) => sequence * 2);
  return {
    sentMs,
    received: sentMs.map((at, sequence) => ({ sequence, sentMs: at, receivedMs: at + 10 })),
  };
}

describe('analysis of a window', () => {
  it('finds nothing wrong with a steady flow', () => {
    expect(analyseWindow(steadyTrace(500), { fromMs: 100, toMs: 500 })).toMatchObject({
      sent: 200,
      received: 200,
      lost: 0,
      duplicated: 0,
      reordered: 0,
      gapMs: 2,
      delayMs: 10,
    });
  });

  it('counts a packet that arrives after the window as received, not as lost', () => {
    const trace = steadyTrace(500);
    expect(analyseWindow(trace, { fromMs: 990, toMs: 1_000 })).toMatchObject({
      sent: 5,
      received: 5,
      lost: 0,
    });
  });

  it('gives each packet to exactly one of two adjacent windows', () => {
    const trace = steadyTrace(500);
    const first = analyseWindow(trace, { fromMs: 0, toMs: 300 });
    const second = analyseWindow(trace, { fromMs: 300, toMs: 1_000 });
    expect(first.sent + second.sent).toBe(500);
    expect(first.received + second.received).toBe(500);
  });

  it('sees an outage as lost packets and as a gap at the receiver', () => {
    const trace = steadyTrace(500);
    trace.received = trace.received.filter(({ sequence }) => sequence < 200 || sequence >= 225);
    expect(analyseWindow(trace, { fromMs: 300, toMs: 700 })).toMatchObject({
      lost: 25,
      gapMs: 52,
      gapEndedMs: 460,
    });
    expect(analyseWindow(trace, { fromMs: 700, toMs: 900 })).toMatchObject({ lost: 0, gapMs: 2 });
  });

  it('measures a silence that does not end within the window', () => {
    const trace = steadyTrace(500);
    trace.received = trace.received.filter(({ sequence }) => sequence < 250);
    // The last packet was sent at 498.
    expect(analyseWindow(trace, { fromMs: 400, toMs: 900 })).toMatchObject({ lost: 200, gapMs: 900 - 508 });
  });

  it('tells duplicates from losses and overtaking from both', () => {
    const trace = steadyTrace(100);
    const [late] = trace.received.splice(50, 1);
    trace.received.splice(55, 0, { ...late!, receivedMs: 121 });
    trace.received.push({ ...trace.received[0]!, receivedMs: 300 });
    expect(analyseWindow(trace, { fromMs: 0, toMs: 200 })).toMatchObject({
      received: 100,
      lost: 0,
      duplicated: 1,
      reordered: 1,
    });
  });

  it('adds the counts of both directions and keeps the larger gap', () => {
    const good = analyseWindow(steadyTrace(500), { fromMs: 0, toMs: 500 });
    const broken = steadyTrace(500);
    broken.received = broken.received.filter(({ sequence }) => sequence < 100 || sequence >= 150);
    const bad = analyseWindow(broken, { fromMs: 0, toMs: 500 });
    expect(together(good, bad)).toMatchObject({ sent: 500, lost: 50, gapMs: 102 });
  });
});
