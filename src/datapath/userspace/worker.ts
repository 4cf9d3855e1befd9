import { nativeCryptography } from '../../linux/native-cryptography.ts';
import { runPacketLoop } from '../../linux/packet-loop.ts';
import { packetWorkerData } from '../../linux/packet-worker.ts';
import { createRandomPool } from '../../linux/random-pool.ts';
import { openTun } from '../../linux/tun.ts';
import { openUdp, type UdpOptions, type UdpSocket } from '../../linux/udp.ts';
import { MooringError } from '../../protocol/errors.ts';
import { monotonicMs } from '../../telemetry/clock.ts';
import { useCryptography } from '../../tunnel/cryptography.ts';
import { DATA } from '../../tunnel/wire.ts';
import type { EngineCounters } from '../engine-api.ts';
import { openFastEngine } from '../xdp/fast-engine.ts';
import { createEngine, type Engine } from './engine.ts';
import {
  type Answered,
  ENGINE_BEGIN,
  type EngineRequest,
  type EngineSettings,
  type FromEngine,
  type GraceOver,
  type PlainError,
} from './messages.ts';

/** The packet thread's whole life: a TUN device to the public side, a wildcard socket per family to the devices. */

/** A burst of a few milliseconds must fit while the loop serves the other side. */
const TUN_QUEUE_PACKETS = 4096;
const SETTLE_PACKETS = 256;

useCryptography(nativeCryptography);

const { port, wakeupFd, settings } = packetWorkerData<EngineSettings>();
/** Answers of this round: to be told at once, before anything that came after them. */
let answers: Answered[] = [];
const tellAnswers = (): void => {
  if (answers.length === 0) return;
  port.postMessage({ type: 'answers', answers } satisfies FromEngine);
  answers = [];
};
const tell = (message: FromEngine): void => {
  tellAnswers();
  port.postMessage(message);
};

const graces = new Map<number, () => void>();
let lastGrace = 0;

const { tun, v4, v6, fast } = start();
const packet = new Uint8Array(new ArrayBuffer(DATA.inner + settings.mtu));
let lostToNetwork = 0;
/** Taken while XDP waits for what was queued before. */
let settlingPackets = 0;
let begun = !settings.waits;

const engine: Engine = createEngine({
  fast: fast.mirror,
  relayBoot: settings.relayBoot,
  marking: settings.marking,
  policing: settings.policing,
  random: createRandomPool(),
  io: {
    toDevice(endpoint, to, buffer, at, length, octet) {
      (to.address.includes(':') ? v6 : v4)?.queue(to, buffer, at, length, endpoint, octet);
    },
    toNetwork(buffer, at, length) {
      if (!tun.write(buffer, at, length)) lostToNetwork += 1;
    },
    event: (event) => tell({ type: 'event', event }),
  },
});

/** Whoever started the thread is told why it cannot, in a form that he can tell from a fault. */
function start() {
  try {
    return open(settings);
  } catch (error) {
    if (error instanceof MooringError) tell({ type: 'not-started', error: plain(error) });
    throw error;
  }
}

/** A host without IPv6 serves IPv4 alone; every other failure ends the thread with what it says. */
function open({ tun: name, mtu, port, persist, inherited }: EngineSettings) {
  const opened: { close(): void }[] = [];
  try {
    const common = {
      port,
      pktinfo: true,
      trafficClass: true,
      inRuns: true,
      maxDatagramBytes: DATA.inner + mtu,
    };
    const socket4 = openUdp({ ...common, family: 4, ...socketFrom(inherited.udp4) });
    opened.push(socket4);
    const socket6 = openIpv6({ ...common, ...socketFrom(inherited.udp6) });
    if (socket6 !== null) opened.push(socket6);
    const { marking, policing } = settings;
    const fast = openFastEngine(settings.xdp, {
      tunnelPort: port,
      innerMtu: mtu,
      marking,
      rates: policing,
      askGrace,
    });
    opened.push({ close: () => fast.close(!persist) });
    // Last, because a persistent device stays behind when something else is refused.
    const device = openTun({ name, mtu, persist, queuePackets: TUN_QUEUE_PACKETS });
    return { tun: device, v4: socket4, v6: socket6, fast };
  } catch (error) {
    for (const item of opened) item.close();
    throw error;
  }
}

function socketFrom(fd: number | undefined): { readonly inherited?: number } {
  return fd === undefined ? {} : { inherited: fd };
}

function openIpv6(common: Omit<UdpOptions, 'family'>): UdpSocket | null {
  try {
    return openUdp({ ...common, family: 6 });
  } catch (error) {
    if (error instanceof MooringError && error.data.errnoName === 'EAFNOSUPPORT') return null;
    throw error;
  }
}

function askGrace(done: () => void): void {
  lastGrace += 1;
  graces.set(lastGrace, done);
  tell({ type: 'grace', id: lastGrace });
}

function graceIsOver({ graceOver }: GraceOver): void {
  const done = graces.get(graceOver);
  graces.delete(graceOver);
  done?.();
}

/** Returns how many packets it took: less than `budget` when no more were there. */
function drainTun(budget: number): number {
  const nowMs = monotonicMs();
  for (let taken = 0; taken < budget; taken += 1) {
    const length = tun.read(packet, DATA.inner, settings.mtu);
    if (length === 0) return taken;
    engine.packet(packet, DATA.inner, length, nowMs);
  }
  return budget;
}

/**
 * Sends what the public side has queued, and then lets XDP go on. Behind as many packets as the queue holds none can be
 * that was in it before: those that keep coming are to be XDP's.
 */
function settle(): void {
  const taken = drainTun(SETTLE_PACKETS);
  flush();
  settlingPackets += taken;
  if (taken === SETTLE_PACKETS && settlingPackets < TUN_QUEUE_PACKETS) return;
  settlingPackets = 0;
  engine.settle(monotonicMs());
}

function drainSocket(udp: UdpSocket): void {
  const count = udp.receive();
  const nowMs = monotonicMs();
  const { buffer } = udp;
  for (let i = 0; i < count; i += 1) {
    const octet = udp.trafficClass(i);
    if (fast.mirror !== null && !fast.sees(udp.interfaceIndex(i))) {
      engine.bypassed(udp.destination(i), buffer, udp.at(i), udp.length(i), nowMs);
    }
    engine.datagram(udp.destination(i), udp.source(i), buffer, udp.at(i), udp.length(i), nowMs, octet);
  }
}

function answer({ id, command }: EngineRequest): void {
  try {
    const result = engine.command(command, monotonicMs());
    answers.push({ id, answer: command.op === 'counters' ? withSockets(result as EngineCounters) : result });
  } catch (error) {
    // Anything but a refusal is a fault of the engine: it ends the thread, and the process that owns it knows.
    if (!(error instanceof MooringError)) throw error;
    answers.push({ id, error: plain(error, { op: command.op }) });
  }
  // The network is told as soon as this is known, and must not wait for the rest of the round.
  if (command.op === 'anchor') tellAnswers();
  // What the command sent is not to wait for the next packet.
  flush();
}

function plain({ code, message, rsip, temporary, data }: MooringError, more: object = {}): PlainError {
  const detail = { ...(rsip === undefined ? {} : { rsip }), temporary, data: { ...data, ...more } };
  return { code, message, detail };
}

/** What was decided and then lost at a full queue or a refusing kernel. */
function withSockets(counted: EngineCounters): EngineCounters {
  const downlink: Record<string, number> = { ...counted.downlink };
  const uplink: Record<string, number> = { ...counted.uplink };
  if (lostToNetwork > 0) uplink['lost-at-tun'] = lostToNetwork;
  for (const udp of [v4, v6]) {
    if (udp === null) continue;
    if (udp.counters.truncated > 0) uplink['too-long'] = (uplink['too-long'] ?? 0) + udp.counters.truncated;
    for (const [errno, lost] of Object.entries(udp.counters.sendErrors)) {
      downlink[`lost-${errno}`] = (downlink[`lost-${errno}`] ?? 0) + lost;
    }
  }
  return { ...counted, downlink, uplink };
}

function flush(): void {
  v4.flush();
  v6?.flush();
}

const sources: readonly (readonly [fd: number, drain: (budget: number) => void])[] = [
  [tun.fd, (budget) => void drainTun(budget)],
  [v4.fd, () => drainSocket(v4)],
  ...(v6 === null ? [] : [[v6.fd, () => drainSocket(v6)] as const]),
];

const reports: typeof sources =
  fast.mirror === null ? [] : [[fast.mirror.events.fd, () => fast.mirror?.takeEvents(monotonicMs())]];

tell({
  type: 'ready',
  descriptors: { udp4: v4.fd, ...(v6 === null ? {} : { udp6: v6.fd }) },
  status: fast.status,
});
try {
  runPacketLoop({
    wakeupFd,
    port,
    onMessage(message, loop) {
      if (message === ENGINE_BEGIN) {
        begun = true;
        for (const [fd, drain] of sources) loop.add(fd, drain);
      } else if ((message as GraceOver).graceOver !== undefined) graceIsOver(message as GraceOver);
      else answer(message as EngineRequest);
    },
    sources: settings.waits ? reports : [...sources, ...reports],
    nextDueMs: () => Math.min(engine.nextDueMs(), fast.nextDueMs()),
    onTick(nowMs) {
      fast.tick(nowMs);
      engine.tick(nowMs);
    },
    afterBatch() {
      tellAnswers();
      flush();
      if (begun && engine.settling) settle();
    },
  });
} finally {
  tellAnswers();
  v4.close();
  v6?.close();
  tun.close();
  fast.close(!settings.persist);
}
