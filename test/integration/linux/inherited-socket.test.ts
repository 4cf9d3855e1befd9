import { createSocket } from 'node:dgram';
import { closeSync } from 'node:fs';
import { afterEach, describe, expect, it } from 'vitest';
import {
  createDescriptorChannel,
  giveDescriptors,
  takeDescriptors,
} from '../../../src/linux/descriptor-passing.ts';
import { openUdp, type UdpSocket } from '../../../src/linux/udp.ts';
import { until } from './own-namespace.ts';

describe('a UDP socket that a former process opened', () => {
  const open: UdpSocket[] = [];
  afterEach(() => {
    for (const socket of open.splice(0)) socket.close();
  });
  const opened = (socket: UdpSocket): UdpSocket => {
    open.push(socket);
    return socket;
  };

  /** A copy of the descriptor, as another process would get it. */
  function copyOf(fd: number): number {
    const [near, far] = createDescriptorChannel();
    giveDescriptors(near, { udp: fd });
    const { udp } = takeDescriptors(far)!;
    closeSync(near);
    closeSync(far);
    return udp!;
  }

  it.each([4, 6] as const)('has kept what arrived while nobody read it (IPv%i)', async (family) => {
    const first = openUdp({ family, port: 0, pktinfo: true });
    const kept = copyOf(first.fd);
    first.close();
    const { localPort } = first;
    const sender = createSocket(family === 4 ? 'udp4' : 'udp6');
    await new Promise<void>((resolve) => {
      sender.send('while you were away', localPort, family === 4 ? '127.0.0.1' : '::1', () => resolve());
    });
    sender.close();
    const second = opened(openUdp({ family, port: localPort, pktinfo: true, inherited: kept }));
    let count = 0;
    await until('the datagram', () => {
      count = second.receive();
      return count > 0;
    });
    expect(second.fd).toBe(kept);
    expect(
      Buffer.from(second.buffer.subarray(second.at(0), second.at(0) + second.length(0))).toString(),
    ).toBe('while you were away');
    expect(second.destination(0)).toBe(family === 4 ? '127.0.0.1' : '::1');
  });

  it('is left for a new one when the port is to be another', () => {
    const first = openUdp({ family: 4, port: 0 });
    const kept = copyOf(first.fd);
    first.close();
    const other = openUdp({ family: 4, port: 0 });
    const { localPort } = other;
    other.close();
    const second = opened(openUdp({ family: 4, port: localPort, inherited: kept }));
    expect(second.localPort).toBe(localPort);
    // Nobody holds the former one any more.
    opened(openUdp({ family: 4, port: first.localPort }));
  });
});
