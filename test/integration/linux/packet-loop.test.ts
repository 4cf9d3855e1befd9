import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { MessageChannel } from 'node:worker_threads';
import { describe, expect, it } from 'vitest';
import { allocate, memoryAddress, permanentAddress } from '../../../src/linux/libc.ts';
import {
  PACKET_WORKER_STOP,
  type PacketLoop,
  type PacketLoopOptions,
  runPacketLoop,
} from '../../../src/linux/packet-loop.ts';
import { createPoller, createWakeup, drainFd, wakeFd } from '../../../src/linux/poll.ts';
import { openUdp } from '../../../src/linux/udp.ts';
import { socketAddress } from '../../../src/protocol/address.ts';
import { monotonicMs } from '../../../src/telemetry/clock.ts';

/** The loop is synchronous: these tests run it on this very thread, to its end. */
function runToEnd(messages: readonly unknown[], options: Partial<PacketLoopOptions>): void {
  const { port1, port2 } = new MessageChannel();
  const wakeup = createWakeup();
  port1.postMessage(messages);
  try {
    runPacketLoop({
      wakeupFd: wakeup.fd,
      port: port2,
      onMessage() {},
      nextDueMs: () => Number.POSITIVE_INFINITY,
      onTick() {},
      afterBatch() {},
      ...options,
    });
  } finally {
    port1.close();
    wakeup.close();
  }
}

/** A source that is always ready, until `drainFd`. */
function readySource() {
  const source = createWakeup();
  source.wake();
  return source;
}

describe('the packet loop', () => {
  it('serves every source and the messages while one source never runs dry', () => {
    const [busy, quiet] = [readySource(), createWakeup()];
    const order: string[] = [];
    runToEnd(['hello'], {
      onMessage(_, loop) {
        loop.add(busy.fd, () => {
          order.push('busy');
          if (order.length === 5) quiet.wake();
        });
        loop.add(quiet.fd, () => {
          order.push('quiet');
          loop.stop();
        });
      },
    });
    expect(order).toEqual(['busy', 'busy', 'busy', 'busy', 'busy', 'busy', 'quiet']);
    busy.close();
    quiet.close();
  });

  it('takes a flood of messages in rounds, with packets in between', () => {
    const source = readySource();
    const order: string[] = [];
    const messages = [...Array.from({ length: 1000 }, (_, i) => i), PACKET_WORKER_STOP];
    runToEnd(messages, {
      sources: [[source.fd, () => order.push('packets')]],
      onMessage: (message) => order.push(`message ${message}`),
    });
    const firstPackets = order.indexOf('packets');
    expect(firstPackets).toBeGreaterThan(0);
    expect(firstPackets).toBeLessThanOrEqual(256);
    expect(order.filter((entry) => entry !== 'packets')).toEqual(
      Array.from({ length: 1000 }, (_, i) => `message ${i}`),
    );
    source.close();
  });

  it('calls onTick when it is due, not before, and not when nothing is due', () => {
    const startedMs = monotonicMs();
    let dueMs = startedMs + 20;
    const ticks: number[] = [];
    let stop: (() => void) | undefined;
    runToEnd(['begin'], {
      onMessage: (_, loop) => {
        stop = () => loop.stop();
      },
      nextDueMs: () => dueMs,
      onTick(nowMs) {
        ticks.push(nowMs);
        expect(nowMs).toBeGreaterThanOrEqual(dueMs);
        dueMs += 10;
        if (ticks.length === 3) stop?.();
      },
    });
    expect(ticks[0]).toBeGreaterThanOrEqual(startedMs + 20);
    expect(ticks[2]).toBeLessThan(startedMs + 2000);
  });

  it('keeps ticking while a source is never dry', () => {
    const source = readySource();
    let ticks = 0;
    let loop: PacketLoop | undefined;
    runToEnd(['begin'], {
      onMessage: (_, given) => {
        loop = given;
      },
      sources: [[source.fd, () => {}]],
      nextDueMs: () => 0,
      onTick: () => {
        ticks += 1;
        if (ticks === 10) loop?.stop();
      },
    });
    expect(ticks).toBe(10);
    source.close();
  });

  it('forgets a source that a handler removed, even in the round in which it was ready', () => {
    const [first, second] = [readySource(), readySource()];
    const order: string[] = [];
    runToEnd(['begin'], {
      onMessage(_, loop) {
        loop.add(first.fd, () => {
          order.push('first');
          loop.remove(second.fd);
          if (order.length === 3) loop.stop();
        });
        loop.add(second.fd, () => order.push('second'));
      },
    });
    expect(order).toEqual(['first', 'first', 'first']);
    first.close();
    second.close();
  });

  it('flushes after a round that worked, and hands on what a handler throws', () => {
    const source = readySource();
    const order: string[] = [];
    expect(() =>
      runToEnd([], {
        sources: [
          [
            source.fd,
            () => {
              order.push('drain');
              if (order.length > 2) throw new Error('broken handler');
            },
          ],
        ],
        afterBatch: () => order.push('flush'),
      }),
    ).toThrow('broken handler');
    expect(order).toEqual(['drain', 'flush', 'drain']);
    source.close();
  });
});

describe('poll', () => {
  it('tells which descriptors are ready, and waits no longer than told', () => {
    const poller = createPoller();
    const wakeups = Array.from({ length: 40 }, () => createWakeup());
    for (const wakeup of wakeups) poller.add(wakeup.fd);
    poller.add(wakeups[0]!.fd);
    expect(poller.wait(0)).toEqual([]);
    for (const i of [3, 17, 39]) wakeFd(wakeups[i]!.fd);
    expect(poller.wait(1000)).toEqual([3, 17, 39].map((i) => wakeups[i]!.fd));
    poller.remove(wakeups[17]!.fd);
    expect(drainFd(wakeups[3]!.fd)).toBe(true);
    expect(drainFd(wakeups[3]!.fd)).toBe(false);
    expect(poller.wait(1000)).toEqual([wakeups[39]!.fd]);
    wakeups[39]!.drain();
    const started = monotonicMs();
    expect(poller.wait(15.2)).toEqual([]);
    expect(monotonicMs() - started).toBeGreaterThanOrEqual(15);
    for (const wakeup of wakeups) wakeup.close();
  });

  it('takes any number of wakes as one', () => {
    const wakeup = createWakeup();
    for (let i = 0; i < 1000; i += 1) wakeup.wake();
    expect([wakeup.drain(), wakeup.drain()]).toEqual([true, false]);
    wakeup.close();
    wakeup.wake();
  });
});

describe('memory that the kernel writes to', () => {
  it('lives on by its permanent address alone; other memory does not', async () => {
    setFlagsFromString('--expose-gc');
    const collect = runInNewContext('gc') as () => void;
    const lent = (address: (memory: Uint8Array) => number): WeakRef<Uint8Array> => {
      const memory = allocate(64);
      address(memory);
      return new WeakRef(memory);
    };
    const [permanent, passing] = [lent(permanentAddress), lent(memoryAddress)];
    await new Promise((resolve) => setImmediate(resolve));
    collect();
    expect(permanent.deref()).toBeInstanceOf(Uint8Array);
    expect(passing.deref()).toBeUndefined();
  });

  it('stays where it is over garbage collections', () => {
    setFlagsFromString('--expose-gc');
    const collect = runInNewContext('gc') as () => void;
    const receiver = openUdp({ family: 4, port: 0, address: '127.0.0.1', pktinfo: true });
    const sender = openUdp({ family: 4, port: 0, address: '127.0.0.1', pktinfo: true });
    const wakeup = createWakeup();
    const poller = createPoller();
    poller.add(wakeup.fd);
    poller.add(receiver.fd);
    const to = socketAddress('127.0.0.1', receiver.localPort);
    for (let round = 0; round < 20; round += 1) {
      collect();
      // Reuses what was freed: a dangling address would now point into this.
      const noise = [8, 64, 512].flatMap((bytes) =>
        Array.from({ length: 2000 }, () => new Uint8Array(new ArrayBuffer(bytes)).fill(0xff)),
      );
      wakeup.wake();
      sender.queue(to, Uint8Array.of(round, 1, 2, 3), 0, 4, '127.0.0.1');
      expect(sender.flush()).toBe(1);
      expect(poller.wait(1000)).toEqual([wakeup.fd, receiver.fd]);
      expect(wakeup.drain()).toBe(true);
      expect(receiver.receive()).toBe(1);
      expect(receiver.buffer[receiver.at(0)]).toBe(round);
      expect(receiver.destination(0)).toBe('127.0.0.1');
      expect(noise.length).toBe(6000);
    }
    receiver.close();
    sender.close();
    wakeup.close();
  });
});
