/** The four kinds of move, each measured by the receivers' own sequence numbers. */
import { setTimeout as delay } from 'node:timers/promises';
import { monotonicMs } from '../../src/telemetry/clock.ts';
import type { WindowReport } from '../lab/analysis.ts';
import type { FlowReport } from '../lab/traffic.ts';
import type { Rekey } from './ike.ts';
import type { Progress } from './progress.ts';
import { type Actor, ANCHORS, type Stage } from './stage.ts';
import { startStallMeter } from './stall-meter.ts';

export type MoveKind = 'make-before-break' | 'break-before-make' | 'nat-change' | 'relay-change';

/** Counts of both directions together, and the longest silence at either receiver. */
export interface Move
  extends Pick<WindowReport, 'sent' | 'received' | 'lost' | 'duplicated' | 'reordered' | 'gapMs'> {
  readonly from: string;
  readonly to: string;
  readonly kind: MoveKind;
  /** Round trip of the access link after the move, as the relay's challenge measured it. */
  readonly linkRttMs: number;
  /** The longest that this machine kept the demo waiting for a processor meanwhile: bounds are stretched by it. */
  readonly stalledMs: number;
  /** Break-before-make only: lost packets that were neither in flight on the cut link nor sent without a link. */
  readonly lostOutsideCut?: number;
  /** Break-before-make only: from the moment the new link could be used to the first downlink packet. */
  readonly downlinkResumedMs?: number;
}

/** How long a move is watched before and after, milliseconds. */
const BEFORE_MS = 300;
/** The silence that a change of the NAT or of the relay may last, and some more. */
const AFTER_CHANGE_MS = 1_700;
/** A device that moves is at rest long before. */
const AFTER_MOVE_MS = 900;
/** In flight at the window's end. */
const DRAIN_MS = 150;

interface Span {
  readonly fromMs: number;
  readonly toMs: number;
  readonly stalledMs: number;
}

/** Wi-Fi → cellular, both up: the device is told to prefer the other link. IKE renews both its associations meanwhile. */
export async function makeBeforeBreak(
  stage: Stage,
  actor: Actor,
  progress: Progress,
): Promise<{ move: Move; rekeys: readonly Rekey[] }> {
  let rekeys: readonly Rekey[] = [];
  const { span } = await watched(async () => {
    const renewing = actor.rekey();
    await Promise.all([actor.agent.use('cell0'), renewing]);
    rekeys = await renewing;
  }, AFTER_MOVE_MS);
  const move = await toMove(stage, actor, span, { from: 'wifi0', to: 'cell0', kind: 'make-before-break' });
  report(progress, actor, move);
  for (const { of, by, tookMs } of rekeys) {
    const what = of === 'ike' ? 'IKE association' : 'child association';
    progress.say(`${actor.name.padEnd(5)}  ${by} renewed the ${what} meanwhile, in ${tookMs} ms`);
  }
  return { move, rekeys };
}

/** Cellular → hotel: the old link is cut first, then the new one comes up. The device notices by itself. */
export async function breakBeforeMake(stage: Stage, actor: Actor, progress: Progress): Promise<Move> {
  const { cellular, hotel, wifi } = actor.links;
  await wifi.cut();
  let cutMs = 0;
  let usableMs = 0;
  const { span } = await watched(async () => {
    cutMs = monotonicMs();
    await cellular.cut();
    await hotel.up();
    usableMs = monotonicMs();
  }, AFTER_MOVE_MS);
  const move = await toMove(stage, actor, span, { from: 'cell0', to: 'hotel0', kind: 'break-before-make' });
  // In flight on the cut link, or sent while no link was there: everything from one delay before the cut
  // until the relay has heard from the new link.
  const before = await stage.traffic.measure(actor.name, {
    fromMs: span.fromMs,
    toMs: cutMs - move.linkRttMs * 2,
  });
  const heardMs = usableMs + move.linkRttMs + 50 + span.stalledMs;
  const after = await stage.traffic.measure(actor.name, { fromMs: heardMs, toMs: span.toMs });
  const during = await stage.traffic.measure(actor.name, {
    fromMs: cutMs - move.linkRttMs * 2,
    toMs: heardMs,
  });
  const full: Move = {
    ...move,
    lostOutsideCut: before.both.lost + after.both.lost,
    downlinkResumedMs: round(during.down.gapEndedMs - usableMs),
  };
  report(progress, actor, full);
  return full;
}

/** The hotel's NAT gives every flow another port, without a word. */
export async function natChange(stage: Stage, progress: Progress): Promise<Map<Actor, Move>> {
  const { span } = await watched(() => stage.hotel.remap(), AFTER_CHANGE_MS);
  return forAll(stage, span, progress, { from: 'hotel0', to: 'hotel0', kind: 'nat-change' });
}

/** Both anchors move from r1 to r2 by an operator's command. */
export async function relayChange(stage: Stage, progress: Progress): Promise<Map<Actor, Move>> {
  const { span } = await watched(async () => {
    for (const anchor of Object.values(ANCHORS)) {
      const { epoch, tookMs } = await stage.fleet.moveAnchor(anchor, 'r1', 'r2');
      progress.say(`anchor ${anchor} moved from r1 to r2 in ${Math.round(tookMs)} ms (epoch ${epoch})`);
    }
  }, AFTER_CHANGE_MS);
  return forAll(stage, span, progress, { from: 'r1', to: 'r2', kind: 'relay-change' });
}

async function forAll(
  stage: Stage,
  span: Span,
  progress: Progress,
  what: Pick<Move, 'from' | 'to' | 'kind'>,
): Promise<Map<Actor, Move>> {
  const moves = new Map<Actor, Move>();
  for (const actor of stage.actors) {
    const move = await toMove(stage, actor, span, what);
    report(progress, actor, move);
    moves.set(actor, move);
  }
  return moves;
}

/** Lets traffic flow undisturbed for a moment before and after `act`. */
async function watched(act: () => Promise<unknown>, afterMs: number): Promise<{ span: Span }> {
  const meter = startStallMeter(monotonicMs);
  const fromMs = monotonicMs();
  await delay(BEFORE_MS);
  await act();
  await delay(afterMs);
  const toMs = monotonicMs();
  const stalledMs = meter.stop();
  await delay(DRAIN_MS);
  return { span: { fromMs, toMs, stalledMs } };
}

async function toMove(
  stage: Stage,
  actor: Actor,
  span: Span,
  what: Pick<Move, 'from' | 'to' | 'kind'>,
): Promise<Move> {
  const { both }: FlowReport = await stage.traffic.measure(actor.name, span);
  const { sent, received, lost, duplicated, reordered, gapMs } = both;
  const { path } = await actor.agent.status();
  return {
    ...what,
    ...{ sent, received, lost, duplicated, reordered },
    gapMs: round(gapMs),
    stalledMs: round(span.stalledMs),
    linkRttMs: round(path?.rttMs ?? Number.NaN),
  };
}

function report(progress: Progress, actor: Actor, move: Move): void {
  const what = move.kind === 'nat-change' ? 'NAT changes its port' : `${move.from} → ${move.to}`;
  progress.say(
    `${actor.name.padEnd(5)}  ${what.padEnd(20)} ${move.kind.padEnd(18)} lost ${move.lost}/${move.sent}, gap ${move.gapMs} ms, link round trip ${move.linkRttMs} ms`,
  );
}

function round(ms: number): number {
  return Math.round(ms * 10) / 10;
}
