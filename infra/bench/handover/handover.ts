/** `npm run bench -- handover`: what a move costs, by numbered packets, under Mooring and under its rivals. */
import { setTimeout as delay } from 'node:timers/promises';
import { monotonicMs } from '../../../src/telemetry/clock.ts';
import type { Lab } from '../../lab/lab.ts';
import type { AccessLink } from '../../lab/topology.ts';
import type { Traffic } from '../../lab/traffic.ts';
import { type Benchmark, type BenchOptions, chosenCases, type Outcome } from '../benchmark.ts';
import { judged, unmeasured } from '../goals.ts';
import { type Goal, type Result, Results } from '../record.ts';
import { alternate, type Measurement } from '../rounds.ts';
import { FLOW, PACKETS_PER_SECOND, type Roamer } from './roamer.ts';
import { type HandoverStage, setStage } from './stage.ts';

type MoveKind =
  | 'make-before-break'
  | 'break-before-make'
  | 'nat-change'
  | 'nat-change-receive-only'
  | 'relay-change';

interface Case {
  readonly name: string;
  readonly move: MoveKind;
  readonly rttMs: number;
}

const of = (move: MoveKind, rttMs: number): Case => ({ name: `${move}-${rttMs}ms`, move, rttMs });
const CASES: readonly Case[] = [
  ...[20, 80].flatMap((rttMs) =>
    (['make-before-break', 'break-before-make', 'nat-change', 'relay-change'] as const).map((move) =>
      of(move, rttMs),
    ),
  ),
  of('nat-change-receive-only', 80),
];
/** What 60 seconds have room for. */
const QUICK = CASES.filter(({ move, rttMs }) => rttMs === 20 && move !== 'nat-change-receive-only');
const ROUNDS = {
  full: { warmUps: 1, counted: 5 },
  quick: { warmUps: 0, counted: 1 },
} as const;

/** Milliseconds. */
const WATCH = {
  before: 300,
  /** At least; until packets flow again in any case. */
  after: 900,
  drain: 150,
  /** The kernel tells bridges of a carrier that came back within a second: the next move is not to meet that. */
  linkUp: 1_200,
  /** A flow that is silent for longer than this has not come back. */
  longest: 20_000,
} as const;
/** To bring a system to the link that it is to leave. */
const ATTEMPTS = 3;
const CARRIES = { forMs: 250 } as const;
const NOT_MOVED = 'did not move';
const LOST = { up: 'lost up', down: 'lost down' } as const;
const GAP = { up: 'gap up ms', down: 'gap down ms' } as const;

export const handover: Benchmark = {
  name: 'handover',
  summary: 'packets lost and silence at a move: Mooring, wireguard-go, OpenVPN float',
  cases: CASES.map(({ name }) => name),
  run: runHandover,
};

async function runHandover(lab: Lab, { only, quick, say }: BenchOptions): Promise<Outcome> {
  const chosen = chosenCases(handover, only);
  const cases = (quick && only === undefined ? QUICK : CASES).filter(({ name }) => chosen.includes(name));
  say(`a device with two NATed links per system; ${PACKETS_PER_SECOND} packets/s each way`);
  const stage = await setStage(lab, say);
  const results = new Results();
  const rounds = quick ? ROUNDS.quick : ROUNDS.full;
  const stays = new Map<string, number>();
  let round = 0;
  const measurements = cases.flatMap((one) =>
    stage.roamers
      .filter(({ changeRelay }) => one.move !== 'relay-change' || changeRelay !== undefined)
      .map(
        (roamer): Measurement => ({
          system: roamer.system,
          case: one.name,
          run: () => measure(roamer, one, round),
        }),
      ),
  );
  await alternate(
    measurements,
    rounds,
    ({ system, case: name }, { [NOT_MOVED]: stayed, ...figures }) => {
      if (stayed !== undefined) {
        const what = `${name}: ${system} was not on the link where it was expected`;
        stays.set(what, (stays.get(what) ?? 0) + 1);
        say(what);
        return;
      }
      results.add(system, name, figures);
      const pair = ({ up, down }: { up: string; down: string }) => `${figures[up] ?? '–'} / ${figures[down]}`;
      say(`${name.padEnd(28)} ${system.padEnd(14)} lost ${pair(LOST)}, gap ${pair(GAP)} ms (up / down)`);
    },
    (text) => {
      round += 1;
      say(text);
    },
  );
  const measured = results.all();
  return {
    results: measured,
    goals: goals(measured, cases),
    notes: [
      ...[...stays].map(([what, runs]) => `${what}: ${runs} of ${rounds.counted} runs are not counted`),
      ...(await notes(stage)),
    ],
  };
}

async function measure(
  roamer: Roamer,
  { move, rttMs }: Case,
  round: number,
): Promise<Record<string, number>> {
  const { links, traffic } = roamer;
  const receiveOnly = move === 'nat-change-receive-only';
  for (const link of [links.wifi, links.cell]) await link.shape({ delayMs: rttMs / 2 });
  await roamer.prefer('wifi');
  await roamer.settled('wifi');
  await traffic.both.start();
  await flowing(traffic.both, 'both');
  if (!(await brought(roamer))) {
    await traffic.both.pause();
    return { [NOT_MOVED]: 1 };
  }
  let used = traffic.both;
  if (receiveOnly) {
    await traffic.both.pause();
    used = traffic.receiveOnly;
    await used.start();
    await flowing(used, 'down');
    // Whoever speaks every ten seconds is to be met at different moments of that rhythm.
    await delay((round % 5) * 2_000);
  }
  if (move === 'break-before-make') {
    await links.cell.cut();
    await delay(200);
  }
  const fromMs = monotonicMs();
  await delay(WATCH.before);
  const cutMs = monotonicMs();
  const withoutLinkMs = await act(roamer, move);
  await delay(WATCH.after);
  const isBack = await flowing(used, receiveOnly ? 'down' : 'both');
  const toMs = monotonicMs();
  await delay(WATCH.drain);
  const { up, down } = await used.measure(FLOW, { fromMs, toMs });
  const expected = move === 'make-before-break' || move === 'break-before-make' ? links.cell : links.wifi;
  const stayed = isBack && !(await carries(expected));
  await used.pause();
  if (move === 'break-before-make') {
    await links.wifi.up();
    await delay(WATCH.linkUp);
  }
  const figures: Record<string, number> = {};
  if (!receiveOnly) Object.assign(figures, { [LOST.up]: up.lost, [GAP.up]: tenths(up.gapMs) });
  Object.assign(figures, { [LOST.down]: down.lost, [GAP.down]: tenths(down.gapMs) });
  if (move === 'break-before-make') figures['no link ms'] = tenths(withoutLinkMs - cutMs);
  // A system that stays where it was loses nothing: that is no move.
  if (stayed) figures[NOT_MOVED] = 1;
  return figures;
}

/** To wifi, if need be by force, for a system that does not leave a link which still works. */
async function brought({ links, traffic, arrived }: Roamer): Promise<boolean> {
  for (let attempt = 0; attempt < ATTEMPTS; attempt += 1) {
    if (await carries(links.wifi)) return true;
    await links.cell.cut();
    await arrived('wifi');
    await flowing(traffic.both, 'both');
    await links.cell.up();
    await delay(WATCH.linkUp);
  }
  return carries(links.wifi);
}

/** Whether this is the link that the packets take, one way at least. */
async function carries(link: AccessLink): Promise<boolean> {
  const before = await link.counters();
  await delay(CARRIES.forMs);
  const after = await link.counters();
  return after.some(
    ({ offered }, i) => offered - before[i]!.offered > (PACKETS_PER_SECOND * CARRIES.forMs) / 2_000,
  );
}

/** Resolves with the moment at which a link could be used. */
async function act({ links, ...roamer }: Roamer, move: MoveKind): Promise<number> {
  switch (move) {
    case 'make-before-break':
      await roamer.prefer('cell');
      break;
    case 'break-before-make': {
      await links.wifi.cut();
      await links.cell.up();
      const usableMs = monotonicMs();
      await roamer.arrived('cell');
      return usableMs;
    }
    case 'nat-change':
    case 'nat-change-receive-only':
      await links.wifi.network.remap();
      break;
    case 'relay-change':
      await roamer.changeRelay?.();
      break;
    default:
      move satisfies never;
  }
  return monotonicMs();
}

/** Resolves when nearly all packets of the last moments arrived (true), or after the longest silence that is waited for. */
async function flowing(traffic: Traffic, directions: 'both' | 'down'): Promise<boolean> {
  const deadlineMs = monotonicMs() + WATCH.longest;
  while (monotonicMs() < deadlineMs) {
    await delay(200);
    const nowMs = monotonicMs();
    const { up, down } = await traffic.measure(FLOW, { fromMs: nowMs - 300, toMs: nowMs - 150 });
    const arriving = (directions === 'both' ? [up, down] : [down]).every(
      ({ sent, received }) => sent > 0 && received > 0.9 * sent,
    );
    if (arriving) return true;
  }
  return false;
}

function tenths(ms: number): number {
  return Math.round(ms * 10) / 10;
}

/** What Mooring promises of a move; each is judged by the worst run, because a promise is not about the middle one. */
function goals(results: readonly Result[], cases: readonly Case[]): Goal[] {
  const worst = (move: MoveKind, metrics: readonly string[]) => {
    const names = cases.filter((one) => one.move === move).map(({ name }) => name);
    const found = results.filter(
      (result) =>
        result.system === 'mooring' && names.includes(result.case) && metrics.includes(result.metric),
    );
    return found.length === 0 ? undefined : Math.max(...found.map(({ spread }) => spread[1]));
  };
  const goal = (id: string, bound: number, move: MoveKind, metrics: readonly string[]): Goal => {
    const promised = { id, op: '<=', goal: bound } as const;
    const value = worst(move, metrics);
    return value === undefined
      ? unmeasured(promised, `no case of ${move} was run`)
      : judged(promised, value, 'the worst of all runs');
  };
  const gaps = Object.values(GAP);
  return [
    goal('handover.make_before_break_lost', 0, 'make-before-break', Object.values(LOST)),
    goal('handover.nat_change_gap_ms', 1_000, 'nat-change', gaps),
    goal('handover.relay_change_gap_ms', 1_000, 'relay-change', gaps),
  ];
}

async function notes(stage: HandoverStage): Promise<string[]> {
  const drops = await stage.socketDrops();
  return [
    ...(drops > 0
      ? [`the probes themselves dropped ${drops} packets: the machine was too slow to measure`]
      : []),
    ...stage.unavailable,
    'lost and gap: packets sent in a window around the move that never arrived, and the longest silence at the receiver; a packet is sent every 2 ms',
    'break-before-make includes the time without any link (“no link ms”) and, up and down, what was in flight on the cut link',
    'wireguard-go is the userspace version of Debian 12 (2022), given its endpoint anew after every change of link because it caches its source address; a packet that comes in over the old link brings that back, so it does not leave a link that still works; it is not the kernel’s WireGuard',
    'OpenVPN float follows the first authentic packet from a new address without a proof of that address; Mooring asks for the proof, which costs a round trip, and keeps sending on the old path meanwhile if there is one',
    'only Mooring has a relay to change; what rivals keep is an address at their server, not at a peer that knows nothing of them',
  ];
}
