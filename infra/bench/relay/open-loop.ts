/**
 * The open loop: a source on one core offers more than any relay in userspace carries, the relay's process has the other,
 * and what comes out is counted behind it.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { DATA } from '../../../src/tunnel/wire.ts';
import type { ControlChannel } from '../../lab/control-channel.ts';
import { unmeasured, worstRatio } from '../goals.ts';
import { threadsMs } from '../processor.ts';
import type { Goal, Results } from '../record.ts';
import type { Measurement } from '../rounds.ts';
import type { Arrived, LoadCommand, Offered } from './load.ts';
import { type Flow, IPV4_HEADER, type Traffic, UDP_HEADER } from './packets.ts';
import { ADDRESS, DEVICE_PORT, LEASE, PEER_PORT, type Rig } from './rig.ts';
import { CHANNEL_HEADER } from './turn-client.ts';

type Direction = 'down' | 'up';

interface Case {
  readonly name: string;
  readonly traffic: Traffic;
  /** Of the IP packet at the peer's side. */
  readonly octets: number;
  readonly direction: Direction;
}

const CASES: readonly Case[] = (['esp', 'udp'] as const).flatMap((traffic) =>
  [100, 1_400].flatMap((octets) =>
    (['down', 'up'] as const).map((direction) => ({
      name: `${traffic}-${octets}B-${direction}`,
      traffic,
      octets,
      direction,
    })),
  ),
);

/** More than any userspace system here relays, so that its queue is never empty. */
const OFFERED_PER_SECOND: Readonly<Record<number, number>> = { 100: 400_000, 1400: 250_000 };
const TIMES = {
  full: { settleMs: 400, windowMs: 1_500 },
  quick: { settleMs: 200, windowMs: 300 },
} as const;
/** The source goes on a little after the window. */
const TAIL_MS = 100;
const ETHERNET = 14;
export const PER_CORE = 'packets/s per core';
export const OPEN_LOOP_CASES = CASES.map(({ name }) => name);
const GOAL = { id: 'relay.userspace_vs_coturn', op: '>=', goal: 1 } as const;
const OURS = 'mooring-userspace';
export const COTURN = 'coturn';
export const KERNEL = 'kernel-forwarding';

/** How one system is loaded in one case. */
interface Lane {
  readonly via: 'plain' | 'tunnel' | 'turn';
  readonly flow: Flow;
  /** Frame at the sink's interface. */
  readonly frameOctets: number;
  /** Undefined: the kernel, on the core of whoever sends. */
  readonly pid: number | undefined;
}

export function openLoopMeasurements(rig: Rig, chosen: readonly string[], quick: boolean): Measurement[] {
  const times = quick ? TIMES.quick : TIMES.full;
  return CASES.filter(({ name }) => chosen.includes(name)).flatMap((of) =>
    systemsOf(rig, of).map(
      ([system, lane]): Measurement => ({
        system,
        case: of.name,
        async run() {
          if (system === COTURN) await rig.device.request({ op: 'renew-turn' });
          return measure(rig, of, lane, times);
        },
      }),
    ),
  );
}

export function openLoopGoal(rig: Rig, results: Results, chosen: readonly string[]): Goal {
  if ('reason' in rig.coturn) return unmeasured(GOAL, rig.coturn.reason);
  return worstRatio(
    GOAL,
    CASES.filter(({ name }) => chosen.includes(name)).map(({ name }) => ({
      name,
      ours: results.median(OURS, name, PER_CORE),
      theirs: results.median(COTURN, name, PER_CORE),
    })),
  );
}

/** What a reader must know, and what coturn carried on its core; undefined: it was not measured. */
export const OPEN_LOOP_NOTES = [
  '…-down, …-up: fixed offered load above what a relay in userspace carries; delivered packets are counted at the interface behind the relay and dropped there',
  'packets/s per core: delivered packets by the processor time of all threads of the relay process, which has one core for itself; kernel forwarding runs on the core of the sender and has no process of its own',
  'coturn carries UDP only: under esp-… it carries UDP of the same length; its channel data has no tag and no replay window',
] as const;

function systemsOf(rig: Rig, of: Case): [string, Lane][] {
  const { traffic, octets, direction } = of;
  const down = direction === 'down';
  const ends = (
    device: { address: string; port: number },
    peer: { address: string; port: number },
    kind: Traffic,
  ): Flow => {
    const [from, to] = down ? [peer, device] : [device, peer];
    return {
      traffic: kind,
      source: from.address,
      destination: to.address,
      sourcePort: from.port,
      destinationPort: to.port,
      spi: LEASE.spi,
    };
  };
  const peer = { address: ADDRESS.peer, port: PEER_PORT };
  const plainFrame = ETHERNET + octets;
  const overUdp = ETHERNET + IPV4_HEADER + UDP_HEADER;
  const systems: [string, Lane][] = [
    [
      OURS,
      {
        via: down ? 'plain' : 'tunnel',
        flow: ends({ address: ADDRESS.leased, port: LEASE.port }, peer, traffic),
        frameOctets: down ? overUdp + DATA.inner + octets : plainFrame,
        pid: rig.mooring.process.pid,
      },
    ],
    [
      KERNEL,
      {
        via: 'plain',
        flow: ends({ address: ADDRESS.device, port: DEVICE_PORT }, peer, traffic),
        frameOctets: plainFrame,
        pid: undefined,
      },
    ],
  ];
  const { coturn } = rig;
  if (!('reason' in coturn)) {
    systems.splice(1, 0, [
      COTURN,
      {
        via: down ? 'plain' : 'turn',
        flow: ends({ address: ADDRESS.relayToPeer, port: coturn.port }, peer, 'udp'),
        frameOctets: down ? overUdp + CHANNEL_HEADER + octets - IPV4_HEADER - UDP_HEADER : plainFrame,
        pid: coturn.process.pid,
      },
    ]);
  }
  return systems;
}

interface Times {
  readonly settleMs: number;
  readonly windowMs: number;
}

async function measure(
  rig: Rig,
  { octets, direction, name }: Case,
  lane: Lane,
  { settleMs, windowMs }: Times,
): Promise<Record<string, number>> {
  const [source, sink] = direction === 'down' ? [rig.peer, rig.device] : [rig.device, rig.peer];
  const packetsPerSecond = OFFERED_PER_SECOND[octets]!;
  const forMs = settleMs + windowMs + TAIL_MS;
  const { via, flow } = lane;
  const count = Math.ceil((packetsPerSecond * forMs) / 1_000);
  await source.request({ op: 'prepare', via, flow, octets, count });
  const offering = source.request({ op: 'offer', packetsPerSecond, forMs }) as Promise<Offered>;
  await delay(settleMs);
  const before = await reading(sink, lane.pid);
  await delay(windowMs);
  const after = await reading(sink, lane.pid);
  const offered = await offering;
  const packets = after.packets - before.packets;
  if (packets === 0) throw new Error(`${name}: nothing came out of the relay`);
  const frame = (after.octets - before.octets) / packets;
  if (Math.abs(frame - lane.frameOctets) > 1) {
    throw new Error(
      `${name}: frames of ${frame} octets came out of the relay instead of ${lane.frameOctets}: not what was offered`,
    );
  }
  // What a full queue still holds must not come out in the next system's window.
  await drained(sink);
  const seconds = (after.atMs - before.atMs) / 1_000;
  const figures: Record<string, number> = {};
  if (lane.pid !== undefined)
    figures[PER_CORE] = packets / ((after.processorMs - before.processorMs) / 1_000);
  figures['packets/s'] = packets / seconds;
  figures['offered packets/s'] = offered.packets / (offered.tookMs / 1_000);
  return figures;
}

async function reading(sink: ControlChannel<LoadCommand>, pid: number | undefined) {
  const arrived = (await sink.request({ op: 'arrived' })) as Arrived;
  return { ...arrived, processorMs: pid === undefined ? 0 : threadsMs(pid) };
}

async function drained(sink: ControlChannel<LoadCommand>): Promise<void> {
  for (let last = -1; ; ) {
    const { packets } = (await sink.request({ op: 'arrived' })) as Arrived;
    if (packets - last < 10 && last >= 0) return;
    last = packets;
    await delay(20);
  }
}

/** A relay that delivers all that is offered was not at its limit: its packets/s are the source's. */
export function boundBySource(results: Results, measurements: readonly Measurement[]): string[] {
  return measurements
    .filter(({ system }) => system !== KERNEL)
    .filter(({ system, case: name }) => {
      const delivered = results.median(system, name, 'packets/s')!;
      return delivered > 0.95 * results.median(system, name, 'offered packets/s')!;
    })
    .map(
      ({ system, case: name }) =>
        `${name}: ${system} delivered what the source could offer; it was not at its limit`,
    );
}
