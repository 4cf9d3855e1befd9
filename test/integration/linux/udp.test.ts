import { afterAll, describe, expect, it } from 'vitest';
import { ensureAddress } from '../../../src/linux/addresses.ts';
import { ensureRoute } from '../../../src/linux/routes.ts';
import { openTun, type TunDevice } from '../../../src/linux/tun.ts';
import { openUdp, type UdpSocket } from '../../../src/linux/udp.ts';
import { socketAddress } from '../../../src/protocol/address.ts';
import { createNamespace, describeAsRoot, until } from './own-namespace.ts';

const FAMILIES = [
  { family: 4, here: '127.0.0.1', there: '127.0.0.2', nowhere: '192.0.2.1' },
  { family: 6, here: 'fd00::1', there: 'fd00::2', nowhere: '2001:db8::1' },
] as const;

describeAsRoot('UDP batches', () => {
  const namespace = createNamespace();
  namespace.ip('addr add fd00::1/128 dev lo nodad');
  namespace.ip('addr add fd00::2/128 dev lo nodad');
  afterAll(() => namespace.close());

  const sockets: UdpSocket[] = [];
  const open = (options: Parameters<typeof openUdp>[0]): UdpSocket => {
    const socket = namespace.run(() => openUdp(options));
    sockets.push(socket);
    return socket;
  };
  afterAll(() => {
    for (const socket of sockets) socket.close();
  });
  const payload = (length: number, seed: number) =>
    Uint8Array.from({ length }, (_, i) => (seed * 31 + i * 7) & 255);
  const received = (socket: UdpSocket, i: number) =>
    socket.buffer.slice(socket.at(i), socket.at(i) + socket.length(i));

  describe.each(FAMILIES)('over IPv$family', ({ family, here, there, nowhere }) => {
    it('carries datagrams unchanged and says where they came from and went to', async () => {
      const one = open({ family, port: 0, pktinfo: true });
      const other = open({ family, port: 0, pktinfo: true });
      for (const [i, address] of [here, there].entries()) {
        other.queue(
          socketAddress(address, one.localPort),
          payload(200, i),
          i,
          100 + i,
          i === 0 ? there : here,
        );
      }
      expect(other.flush()).toBe(2);
      await until('two datagrams', () => one.receive() === 2);
      expect([0, 1].map((i) => received(one, i))).toEqual([
        payload(200, 0).slice(0, 100),
        payload(200, 1).slice(1, 102),
      ]);
      expect([one.source(0), one.source(1)]).toEqual([
        socketAddress(there, other.localPort),
        socketAddress(here, other.localPort),
      ]);
      expect([one.destination(0), one.destination(1)]).toEqual([here, there]);
      expect(one.at(0)).toBeGreaterThanOrEqual(64);
    });

    it('answers from the address that was asked', async () => {
      const server = open({ family, port: 0, pktinfo: true });
      const client = open({ family, port: 0, address: here });
      client.queue(socketAddress(there, server.localPort), payload(8, 1), 0, 8);
      client.flush();
      await until('the question', () => server.receive() === 1);
      server.queue(server.source(0), server.buffer, server.at(0), server.length(0), server.destination(0));
      server.flush();
      await until('the answer', () => client.receive() === 1);
      expect(client.source(0)).toEqual(socketAddress(there, server.localPort));
    });

    it('drops and counts a datagram longer than a slot, and keeps those around it', async () => {
      const small = open({ family, port: 0, maxDatagramBytes: 256 });
      const sender = open({ family, port: 0, address: here });
      const to = socketAddress(here, small.localPort);
      for (const [i, length] of [10, 257, 256, 2000, 0].entries()) {
        sender.queue(to, payload(2000, i), 0, length);
      }
      expect(sender.flush()).toBe(5);
      await until('the whole ones', () => small.receive() === 3);
      expect([0, 1, 2].map((i) => received(small, i))).toEqual([
        payload(10, 0),
        payload(256, 2),
        payload(0, 4),
      ]);
      expect(small.counters).toMatchObject({ received: 3, truncated: 2 });
    });

    it('counts what the kernel refuses, by name, and sends the rest', async () => {
      const receiver = open({ family, port: 0 });
      const sender = open({ family, port: 0, pktinfo: true });
      const to = socketAddress(here, receiver.localPort);
      const wrongFamily = socketAddress(family === 4 ? '::1' : '127.0.0.1', 9);
      expect(sender.queue(to, payload(8, 1), 0, 8)).toBe(true);
      expect(sender.queue(socketAddress(nowhere, 9), payload(8, 2), 0, 8)).toBe(true);
      expect(sender.queue(wrongFamily, payload(8, 3), 0, 8)).toBe(false);
      expect(sender.queue(to, payload(4000, 4), 0, 4000)).toBe(false);
      expect(sender.queue(to, payload(8, 5), 0, 8)).toBe(true);
      expect(sender.flush()).toBe(2);
      await until('the two good ones', () => receiver.receive() === 2);
      expect(sender.counters.sendErrors).toEqual({ ENETUNREACH: 1, EAFNOSUPPORT: 1, EMSGSIZE: 1 });
    });

    it('sends by itself when the queue is full', async () => {
      const receiver = open({ family, port: 0 });
      const sender = open({ family, port: 0, batch: 4 });
      const to = socketAddress(here, receiver.localPort);
      for (let i = 0; i < 9; i += 1) sender.queue(to, payload(8, i), 0, 8);
      expect(sender.counters.sent).toBe(8);
      expect(sender.flush()).toBe(1);
      let total = 0;
      await until('nine datagrams', () => {
        total += receiver.receive();
        return total === 9;
      });
    });

    it('addresses each datagram by itself, whatever the one before it in the same slot said', async () => {
      const targets = [open({ family, port: 0, pktinfo: true }), open({ family, port: 0, pktinfo: true })];
      const sender = open({ family, port: 0, pktinfo: true, batch: 2 });
      const sends = [
        { to: 0, from: here },
        { to: 1, from: there },
        { to: 1, from: here },
        { to: 0, from: undefined },
        { to: 0, from: there },
        { to: 1, from: undefined },
      ];
      for (const [i, { to, from }] of sends.entries()) {
        sender.queue(socketAddress(here, targets[to]!.localPort), payload(20, i), 0, 20, from);
      }
      sender.flush();
      for (const [number, target] of targets.entries()) {
        const expected = sends
          .map((send, i) => ({ ...send, octets: payload(20, i) }))
          .filter(({ to }) => to === number);
        const seen: { address: string; octets: Uint8Array }[] = [];
        await until(`datagrams for ${number}`, () => {
          for (let count = target.receive(), i = 0; i < count; i += 1) {
            seen.push({ address: target.source(i).address, octets: received(target, i) });
          }
          return seen.length === expected.length;
        });
        // Without a wish the kernel answers from the address that is written to.
        expect(seen).toEqual(expected.map(({ from, octets }) => ({ address: from ?? here, octets })));
      }
    });

    it('moves runs as one message each, and shows them as the datagrams they are', async () => {
      // One message per call: what comes together was joined.
      const receiver = open({ family, port: 0, pktinfo: true, inRuns: true, batch: 1 });
      const sender = open({ family, port: 0, pktinfo: true, inRuns: true });
      const to = socketAddress(here, receiver.localPort);
      const runs = [[100, 100, 100, 40], [100], [0], [0], [250, 250, 7], [8]];
      const sent = runs.flat().map((length, i) => payload(length, i));
      for (const octets of sent) sender.queue(to, octets, 0, octets.length, there);
      expect(sender.flush()).toBe(sent.length);
      const seen: Uint8Array[][] = [];
      await until('every run', () => {
        const count = receiver.receive();
        if (count > 0) seen.push(Array.from({ length: count }, (_, i) => received(receiver, i)));
        for (let i = 0; i < count; i += 1) {
          expect(receiver.source(i)).toEqual(socketAddress(there, sender.localPort));
          expect(receiver.destination(i)).toBe(here);
        }
        return seen.flat().length === sent.length;
      });
      expect(seen.map((run) => run.map((octets) => octets.length))).toEqual(runs);
      expect(seen.flat()).toEqual(sent);
      expect(sender.counters).toMatchObject({ sent: sent.length, sendErrors: {}, refusedRuns: 0 });
    });

    it('keeps the order of every flow, and never joins what differs in address or traffic class', async () => {
      const targets = [0, 1].map(() => open({ family, port: 0, pktinfo: true, trafficClass: true }));
      const sender = open({ family, port: 0, pktinfo: true, inRuns: true, batch: 16 });
      const sends = Array.from({ length: 200 }, (_, i) => ({
        target: (i * 7 + (i >> 3)) & 1,
        from: i % 5 < 3 ? here : there,
        trafficClass: i % 11 < 6 ? 0xb8 : i % 11 < 8 ? 0x02 : 0,
        octets: payload(50 + (i % 13 < 10 ? 0 : i % 13), i),
      }));
      for (const { target, from, trafficClass, octets } of sends) {
        const to = socketAddress(here, targets[target]!.localPort);
        sender.queue(to, octets, 0, octets.length, from, trafficClass);
      }
      sender.flush();
      expect(sender.counters).toMatchObject({ sent: 200, sendErrors: {} });
      for (const [number, target] of targets.entries()) {
        const expected = sends.filter((send) => send.target === number);
        const seen: { from: string; trafficClass: number; octets: Uint8Array }[] = [];
        await until(`datagrams for ${number}`, () => {
          for (let count = target.receive(), i = 0; i < count; i += 1) {
            const trafficClass = target.trafficClass(i);
            seen.push({ from: target.source(i).address, trafficClass, octets: received(target, i) });
          }
          return seen.length === expected.length;
        });
        expect(seen).toEqual(
          expected.map(({ from, trafficClass, octets }) => ({ from, trafficClass, octets })),
        );
      }
    });

    it('drops and counts each datagram of a run that is longer than a slot', async () => {
      const small = open({ family, port: 0, maxDatagramBytes: 256, inRuns: true });
      const sender = open({ family, port: 0, inRuns: true });
      const to = socketAddress(here, small.localPort);
      for (const length of [300, 300, 20, 256, 256]) sender.queue(to, payload(300, length), 0, length);
      expect(sender.flush()).toBe(5);
      await until('the whole ones', () => small.receive() === 3);
      expect([0, 1, 2].map((i) => received(small, i))).toEqual([
        payload(300, 20).slice(0, 20),
        payload(300, 256).slice(0, 256),
        payload(300, 256).slice(0, 256),
      ]);
      expect(small.counters).toMatchObject({ received: 3, truncated: 2 });
    });

    it('sends a run one by one where the path is too narrow for its datagrams', () => {
      const name = `narrow${family}`;
      const tun = namespace.run(() => {
        const device = openTun({ name, mtu: 1280 });
        const [address, far] =
          family === 4 ? ['192.0.2.77/32', '198.51.100.0/24'] : ['fd77::1/128', '2001:db8:77::/48'];
        ensureAddress(name, address);
        ensureRoute({ destination: far, device: name });
        return device;
      });
      const sender = open({ family, port: 0, inRuns: true });
      const to = socketAddress(family === 4 ? '198.51.100.9' : '2001:db8:77::9', 9);
      for (const length of [1400, 1400, 1400, 90]) sender.queue(to, payload(1400, 3), 0, length);
      expect(sender.flush()).toBe(4);
      const packet = new Uint8Array(2000);
      const lengths: number[] = [];
      for (let length = tun.read(packet, 0, 2000); length > 0; length = tun.read(packet, 0, 2000)) {
        if (packet[0]! >> 4 === family && (family === 4 || packet[6] !== 58)) lengths.push(length);
      }
      expect(lengths).toHaveLength(7);
      expect(Math.max(...lengths)).toBeLessThanOrEqual(1280);
      expect(sender.counters).toMatchObject({ sent: 4, sendErrors: {}, refusedRuns: 1 });
      tun.close();
    });

    it('refuses to send octets that the caller does not have', () => {
      const socket = open({ family, port: 0 });
      expect(() => socket.queue(socketAddress(here, 9), new Uint8Array(10), 5, 6)).toThrow(RangeError);
    });

    it('names address and port when it cannot bind', () => {
      const taken = open({ family, port: 0, address: here });
      expect(() => open({ family, port: taken.localPort, address: here })).toThrow(
        new RegExp(`bind for UDP ${here} port ${taken.localPort} failed with EADDRINUSE`),
      );
      expect(() => open({ family, port: 0, address: nowhere })).toThrow(/EADDRNOTAVAIL/);
    });

    it('receives nothing and throws nothing when nothing came, or after close', () => {
      const socket = open({ family, port: 0 });
      expect(socket.receive()).toBe(0);
      socket.close();
      expect([socket.receive(), socket.flush()]).toEqual([0, 0]);
    });
  });

  it('keeps IPv4 out of an IPv6 socket: both families can hold one port', () => {
    const six = open({ family: 6, port: 0 });
    expect(open({ family: 4, port: six.localPort }).localPort).toBe(six.localPort);
  });

  it('sends through the device that it is bound to, whatever the routes prefer', () => {
    const [preferred, bound] = ['ta', 'tb'].map((name, i) =>
      namespace.run(() => {
        const tun = openTun({ name, mtu: 1280 });
        ensureAddress(name, `192.0.2.${i + 1}/32`);
        ensureRoute({ destination: '203.0.113.0/24', device: name, metric: i + 1 });
        return tun;
      }),
    ) as [TunDevice, TunDevice];
    const send = (options: { readonly device?: string }) => {
      const socket = open({ family: 4, port: 0, ...options });
      socket.queue(socketAddress('203.0.113.5', 9), new Uint8Array(4), 0, 4);
      expect(socket.flush()).toBe(1);
      return [preferred, bound].map((tun) => tun.read(new Uint8Array(100), 0, 100));
    };
    expect(send({})).toEqual([32, 0]);
    expect(send({ device: 'tb' })).toEqual([0, 32]);
    expect(() => open({ family: 4, port: 0, device: 'gone' })).toThrow(/gone.*ENODEV/);
    preferred.close();
    bound.close();
  });
});
