/** The tunnel of a device that is a part of a program: a datagram of its own through it, and the answers counted. */
import { randomBytes } from 'node:crypto';
import dgram from 'node:dgram';
import type { HeldLease } from '../../clients/sdk/device.ts';
import { createDeviceSession, type DeviceSession } from '../../clients/sdk/session.ts';
import { parseAddress } from '../../src/protocol/address.ts';
import { monotonicMs } from '../../src/telemetry/clock.ts';
import { newBoot } from '../../src/tunnel/keys.ts';
import { DATA } from '../../src/tunnel/wire.ts';
import type { End } from './talk-program.ts';

export interface GuestTunnel {
  /** Sends a datagram from the first leased port; nothing before the tunnel is bound. */
  ask(): void;
  /** Datagrams that came back. */
  readonly answers: number;
  close(): void;
}

const LINK = 'pub0';
const TICK_MS = 25;

export function openGuestTunnel({ lease, tunnel, root }: HeldLease, echo: End): GuestTunnel {
  const endpoint = tunnel.endpoints[0]!;
  const socket = dgram.createSocket('udp4');
  const question = datagram(lease.address, lease.ports!.first, echo);
  let bound = false;
  let answers = 0;
  const session: DeviceSession = createDeviceSession({
    ...{ root, index: tunnel.index, boot: newBoot((octets) => randomBytes(octets)) },
    addresses: [lease.address],
    sink: {
      send(_link, buffer, at, length) {
        socket.send(Buffer.from(buffer.subarray(at, at + length)), endpoint.port, endpoint.address);
      },
      deliver() {
        answers += 1;
      },
      signal: () => {},
      event(event) {
        if (event.type === 'bound') bound = true;
      },
    },
  });
  socket.on('error', () => {});
  socket.on('message', (message) => session.datagram(LINK, message, 0, message.length, monotonicMs()));
  socket.bind(0, () => session.link({ type: 'use', link: LINK, oldPath: 'unknown' }, monotonicMs()));
  const timer = setInterval(() => {
    const nowMs = monotonicMs();
    if (session.nextDueMs <= nowMs) session.tick(nowMs);
  }, TICK_MS);
  return {
    ask() {
      if (!bound) return;
      const roomy = Buffer.alloc(DATA.inner + question.length);
      question.copy(roomy, DATA.inner);
      session.packet(roomy, DATA.inner, question.length, monotonicMs());
    },
    get answers() {
      return answers;
    },
    close() {
      clearInterval(timer);
      socket.close();
    },
  };
}

/** An IPv4 packet with eight octets of UDP payload and no UDP checksum. */
function datagram(from: string, fromPort: number, to: End): Buffer {
  const packet = Buffer.alloc(20 + 8 + 8);
  packet.writeUInt16BE(0x4500, 0);
  packet.writeUInt16BE(packet.length, 2);
  packet.writeUInt16BE(0x4000, 6);
  packet.writeUInt16BE(0x4011, 8);
  packet.set(parseAddress(from), 12);
  packet.set(parseAddress(to.address), 16);
  let sum = 0;
  for (let at = 0; at < 20; at += 2) sum += packet.readUInt16BE(at);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  packet.writeUInt16BE(~sum & 0xffff, 10);
  packet.writeUInt16BE(fromPort, 20);
  packet.writeUInt16BE(to.port, 22);
  packet.writeUInt16BE(8 + 8, 24);
  return packet;
}
