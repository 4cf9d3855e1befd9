import { randomBytes } from 'node:crypto';
import { runPacketLoop } from '../../linux/packet-loop.ts';
import { packetWorkerData } from '../../linux/packet-worker.ts';
import { openTun } from '../../linux/tun.ts';
import { openUdp, type UdpOptions, type UdpSocket } from '../../linux/udp.ts';
import { MooringError } from '../../protocol/errors.ts';
import { monotonicMs } from '../../telemetry/clock.ts';
import { DATA } from '../../tunnel/wire.ts';
import type { EngineCommand, EngineCounters } from '../engine-api.ts';
import { createEngine, type Engine } from './engine.ts';
import {
  ENGINE_BEGIN,
  type EngineRequest,
  type EngineSettings,
  type FromEngine,
  type PlainError,
} from './messages.ts';

/** The packet thread's whole life: a TUN device to the public side, a wildcard socket per family to the devices. */

/** A burst of a few milliseconds must fit while the loop serves the other side. */
const TUN_QUEUE_PACKETS = 4096;

const { port, wakeupFd, settings } = packetWorkerData<EngineSettings>();
const tell = (message: FromEngine): void => port.postMessage(message);

const { tun, v4, v6 } = open(settings);
const packet = new Uint8Array(new ArrayBuffer(DATA.inner + settings.mtu));
let lostToNetwork = 0;

const engine: Engine = createEngine({
  relayBoot: settings.relayBoot,
  marking: settings.marking,
  policing: settings.policing,
  random: (octets) => new Uint8Array(randomBytes(octets)),
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
    // Last, because a persistent device stays behind when something else is refused.
    const device = openTun({ name, mtu, persist, queuePackets: TUN_QUEUE_PACKETS });
    return { tun: device, v4: socket4, v6: socket6 };
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

function drainTun(budget: number): void {
  const nowMs = monotonicMs();
  for (let taken = 0; taken < budget; taken += 1) {
    const length = tun.read(packet, DATA.inner, settings.mtu);
    if (length === 0) return;
    engine.packet(packet, DATA.inner, length, nowMs);
  }
}

function drainSocket(udp: UdpSocket): void {
  const count = udp.receive();
  const nowMs = monotonicMs();
  const { buffer } = udp;
  for (let i = 0; i < count; i += 1) {
    const octet = udp.trafficClass(i);
    engine.datagram(udp.destination(i), udp.source(i), buffer, udp.at(i), udp.length(i), nowMs, octet);
  }
}

function answer({ id, command }: EngineRequest): void {
  try {
    const result = engine.command(command, monotonicMs());
    tell({
      type: 'answer',
      id,
      answer: command.op === 'counters' ? withSockets(result as EngineCounters) : result,
    });
  } catch (error) {
    // Anything but a refusal is a fault of the engine: it ends the thread, and the process that owns it knows.
    if (!(error instanceof MooringError)) throw error;
    tell({ type: 'refused', id, error: plain(error, command) });
  }
  // What the command sent is not to wait for the next packet.
  flush();
}

function plain({ code, message, rsip, temporary, data }: MooringError, command: EngineCommand): PlainError {
  const detail = { ...(rsip === undefined ? {} : { rsip }), temporary, data: { ...data, op: command.op } };
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
  [tun.fd, drainTun],
  [v4.fd, () => drainSocket(v4)],
  ...(v6 === null ? [] : [[v6.fd, () => drainSocket(v6)] as const]),
];

tell({ type: 'ready', descriptors: { udp4: v4.fd, ...(v6 === null ? {} : { udp6: v6.fd }) } });
try {
  runPacketLoop({
    wakeupFd,
    port,
    onMessage(message, loop) {
      if (message === ENGINE_BEGIN) for (const [fd, drain] of sources) loop.add(fd, drain);
      else answer(message as EngineRequest);
    },
    sources: settings.waits ? [] : sources,
    nextDueMs: () => engine.nextDueMs(),
    onTick: (nowMs) => engine.tick(nowMs),
    afterBatch: flush,
  });
} finally {
  v4.close();
  v6?.close();
  tun.close();
}
