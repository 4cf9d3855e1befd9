import { afterAll, expect, it } from 'vitest';
import { createPoller } from '../../../src/linux/poll.ts';
import { openTap, openTun, removeTun } from '../../../src/linux/tun.ts';
import { openUdp } from '../../../src/linux/udp.ts';
import { socketAddress } from '../../../src/protocol/address.ts';
import { createNamespace, describeAsRoot, until } from './own-namespace.ts';

describeAsRoot('TUN devices', () => {
  const namespace = createNamespace();
  afterAll(() => namespace.close());

  it('hand packets of the kernel out and take packets in, byte for byte', async () => {
    const tun = namespace.run(() => openTun({ name: 'mt0', mtu: 1280 }));
    namespace.ip('addr add 10.9.0.1/24 dev mt0');
    const socket = namespace.run(() => openUdp({ family: 4, port: 0 }));
    const peer = socketAddress('10.9.0.2', 4242);
    socket.queue(peer, Buffer.from('over the tunnel'), 0, 15);
    socket.flush();

    const poller = createPoller();
    poller.add(tun.fd);
    expect(poller.wait(2000)).toEqual([tun.fd]);
    const arena = new Uint8Array(4096);
    const length = tun.read(arena, 100, 2000);
    expect(length).toBe(20 + 8 + 15);
    const packet = Buffer.from(arena.buffer, 100, length);
    expect(packet.subarray(28).toString()).toBe('over the tunnel');
    expect(tun.read(arena, 0, 2000)).toBe(0);

    // Addresses and ports swapped: both checksums stay true.
    const reply = Buffer.from(packet);
    packet.copy(reply, 12, 16, 20);
    packet.copy(reply, 16, 12, 16);
    packet.copy(reply, 20, 22, 24);
    packet.copy(reply, 22, 20, 22);
    expect(tun.write(reply, 0, reply.length)).toBe(true);
    await until('the reply', () => socket.receive() === 1);
    expect(socket.source(0)).toEqual(peer);
    socket.close();
    tun.close();
    tun.close();
    expect(tun.read(arena, 0, 100)).toBe(0);
    expect(tun.write(reply, 0, reply.length)).toBe(false);
  });

  it('come up with the MTU asked for, and quiet', () => {
    const tun = namespace.run(() => openTun({ name: 'mt%d', mtu: 1300, queuePackets: 2000 }));
    const [link] = namespace.ip(`-j -d link show dev ${tun.name}`) as Record<string, unknown>[];
    expect(link).toMatchObject({ ifindex: tun.ifindex, mtu: 1300, txqlen: 2000 });
    expect(link?.flags).toContain('UP');
    expect(link?.inet6_addr_gen_mode).toBe('none');
    expect(tun.read(new Uint8Array(100), 0, 100)).toBe(0);
    tun.close();
    expect(() => namespace.ip(`link show dev ${tun.name}`)).toThrow();
  });

  it('stay when persistent, can be opened again, and go when removed', () => {
    const first = namespace.run(() => openTun({ name: 'keep0', mtu: 1280, persist: true }));
    first.close();
    const again = namespace.run(() => openTun({ name: 'keep0', mtu: 1400, persist: true }));
    expect(again.ifindex).toBe(first.ifindex);
    expect(() => namespace.run(() => openTun({ name: 'keep0', mtu: 1280 }))).toThrow(/keep0.*EBUSY/);
    again.close();
    namespace.run(() => removeTun('keep0'));
    namespace.run(() => removeTun('keep0'));
    expect(() => namespace.ip('link show dev keep0')).toThrow();
  });

  it('refuse what is not a packet without throwing, and offsets outside the array with throwing', () => {
    const tun = namespace.run(() => openTun({ name: 'mt1', mtu: 1280 }));
    expect(tun.write(new Uint8Array(40).fill(0xff), 0, 40)).toBe(false);
    expect(() => tun.write(new Uint8Array(40), 30, 11)).toThrow(RangeError);
    expect(() => tun.read(new Uint8Array(40), 30, 11)).toThrow(RangeError);
    expect(() => tun.read(new Uint8Array(40), -1, 4)).toThrow(RangeError);
    tun.close();
  });

  it('say so when they vanish under the reader', () => {
    const tun = namespace.run(() => openTun({ name: 'mt2', mtu: 1280 }));
    namespace.ip('link del dev mt2');
    expect(() => tun.read(new Uint8Array(100), 0, 100)).toThrow(/mt2.*open it again/);
    tun.close();
  });

  it('refuse names that the kernel would cut or misread', () => {
    for (const name of ['', 'sixteen-octets-x', 'a/b', '..', 'a b']) {
      expect(() => openTun({ name, mtu: 1280 })).toThrow(/device/);
    }
    const tun = namespace.run(() => openTun({ name: 'mt3', mtu: 1280 }));
    expect(() => namespace.run(() => openTap({ name: 'mt3', mtu: 1280 }))).toThrow(/mt3/);
    tun.close();
  });

  it('carry Ethernet frames as TAP', () => {
    const tap = namespace.run(() => openTap({ name: 'tap0', mtu: 1500 }));
    namespace.ip('addr add 10.8.0.1/24 dev tap0');
    const socket = namespace.run(() => openUdp({ family: 4, port: 0 }));
    socket.queue(socketAddress('10.8.0.2', 9), new Uint8Array(1), 0, 1);
    socket.flush();
    const frame = new Uint8Array(2000);
    expect(tap.read(frame, 0, 2000)).toBe(42);
    // Before the datagram: who has 10.8.0.2?
    expect(Array.from(frame.subarray(12, 14))).toEqual([8, 6]);
    socket.close();
    tap.close();
  });
});
