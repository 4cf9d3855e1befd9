import { type PacketLoop, runPacketLoop } from '../../src/linux/packet-loop.ts';
import { packetWorkerData } from '../../src/linux/packet-worker.ts';
import { openTun } from '../../src/linux/tun.ts';
import { openUdp, type UdpSocket } from '../../src/linux/udp.ts';
import type { SocketAddress } from '../../src/protocol/address.ts';
import { monotonicMs } from '../../src/telemetry/clock.ts';
import { DATA } from '../../src/tunnel/wire.ts';
import { createDeviceSession } from '../sdk/session.ts';
import type { FromPacketWorker, PacketSettings, ToPacketWorker, TunnelLink } from './packet-messages.ts';

/** The worker's whole life: TUN on one side, a socket per access interface on the other, the session between. */

interface Socket {
  readonly udp: UdpSocket;
  readonly ifindex: number;
  readonly endpoint: SocketAddress;
}

const { port, wakeupFd, settings } = packetWorkerData<PacketSettings>();
const tell = (message: FromPacketWorker): void => port.postMessage(message);

const tun = openTun({ name: settings.tun, mtu: settings.mtu });
const sockets = new Map<string, Socket>();
const lostSends: Record<string, number> = {};
const packet = new Uint8Array(new ArrayBuffer(DATA.inner + settings.mtu));

const session = createDeviceSession({
  root: settings.root,
  index: settings.index,
  boot: settings.boot,
  addresses: settings.addresses,
  marking: settings.marking,
  sink: {
    send(link, buffer, at, length, octet) {
      const socket = sockets.get(link);
      socket?.udp.queue(socket.endpoint, buffer, at, length, undefined, octet);
    },
    deliver(buffer, at, length) {
      tun.write(buffer, at, length);
    },
    signal(link, datagram) {
      const localPort = sockets.get(link)?.udp.localPort;
      if (localPort !== undefined) tell({ type: 'signal', link, datagram, localPort });
    },
    event: (event) => tell({ type: 'event', event }),
  },
});

function drainTun(budget: number): void {
  const nowMs = monotonicMs();
  for (let taken = 0; taken < budget; taken += 1) {
    const length = tun.read(packet, DATA.inner, settings.mtu);
    if (length === 0) return;
    session.packet(packet, DATA.inner, length, nowMs);
  }
}

function drainSocket(link: string, udp: UdpSocket): void {
  const count = udp.receive();
  const nowMs = monotonicMs();
  const { buffer } = udp;
  for (let i = 0; i < count; i += 1) {
    session.datagram(link, buffer, udp.at(i), udp.length(i), nowMs, udp.trafficClass(i));
  }
}

/** False, and told, when there can be no socket on this link. */
function tryLink(link: TunnelLink, loop: PacketLoop): boolean {
  try {
    openLink(link, loop);
    return true;
  } catch (error) {
    const text = error instanceof Error ? error.message : String(error);
    tell({ type: 'link-failed', link: link.id, message: text });
    return false;
  }
}

function openLink(link: TunnelLink, loop: PacketLoop): void {
  const open = sockets.get(link.id);
  if (open?.ifindex === link.ifindex && open.endpoint.key === link.endpoint.key) return;
  closeLink(link.id, loop);
  const udp = openUdp({
    family: link.endpoint.address.includes(':') ? 6 : 4,
    port: 0,
    device: link.id,
    inRuns: true,
  });
  sockets.set(link.id, { udp, ifindex: link.ifindex, endpoint: link.endpoint });
  loop.add(udp.fd, () => drainSocket(link.id, udp));
}

function closeLink(id: string, loop: PacketLoop): void {
  const open = sockets.get(id);
  if (open === undefined) return;
  sockets.delete(id);
  loop.remove(open.udp.fd);
  for (const [errno, count] of Object.entries(open.udp.counters.sendErrors)) {
    lostSends[errno] = (lostSends[errno] ?? 0) + count;
  }
  open.udp.close();
}

function obey(message: ToPacketWorker, loop: PacketLoop): void {
  const nowMs = monotonicMs();
  switch (message.op) {
    case 'use':
      if (!tryLink(message.link, loop)) return;
      session.link({ type: 'use', link: message.link.id, oldPath: message.oldPath }, nowMs);
      return;
    case 'probe':
      if (!tryLink(message.link, loop)) return;
      session.link({ type: 'probe', link: message.link.id, id: message.id }, nowMs);
      return;
    case 'link-gone':
      session.link({ type: 'link-gone', link: message.id }, nowMs);
      closeLink(message.id, loop);
      return;
    case 'leaving':
      session.link({ type: 'leaving' }, nowMs);
      return;
    case 'status':
      tell({ type: 'status', request: message.request, session: session.status(), sendErrors: sendErrors() });
      return;
    default:
      message satisfies never;
  }
}

function sendErrors(): Record<string, number> {
  const total = { ...lostSends };
  for (const { udp } of sockets.values()) {
    for (const [errno, count] of Object.entries(udp.counters.sendErrors)) {
      total[errno] = (total[errno] ?? 0) + count;
    }
  }
  return total;
}

tell({ type: 'ready' });
try {
  runPacketLoop({
    wakeupFd,
    port,
    onMessage: (message, loop) => obey(message as ToPacketWorker, loop),
    sources: [[tun.fd, drainTun]],
    nextDueMs: () => session.nextDueMs,
    onTick: (nowMs) => session.tick(nowMs),
    afterBatch() {
      for (const { udp } of sockets.values()) udp.flush();
    },
  });
} finally {
  for (const { udp } of sockets.values()) udp.close();
  tun.close();
}
