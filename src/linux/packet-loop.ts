import { type MessagePort, receiveMessageOnPort } from 'node:worker_threads';
import { monotonicMs } from '../telemetry/clock.ts';
import { createPoller, drainFd } from './poll.ts';

/** Messages taken per round: a burst of commands must not keep packets waiting. */
const MESSAGES_PER_ROUND = 256;
/** Datagrams or packets that a source may take per round. */
const BUDGET = 64;
/** A thread that waits inside the kernel can only be ended when it comes back. */
const LONGEST_WAIT_MS = 10_000;

/** The message by which the other thread ends the loop; it is not shown to `onMessage`. */
export const PACKET_WORKER_STOP = 'mooring:stop';

export interface PacketLoop {
  /**
   * Calls `drain` whenever `fd` has something to read. It takes at most `budget` packets and returns: what is left
   * makes it ready again in the next round, after every other source had its turn.
   */
  add(fd: number, drain: (budget: number) => void): void;
  remove(fd: number): void;
  /** Ends `runPacketLoop` after the present round. */
  stop(): void;
}

export interface PacketLoopOptions {
  /** Eventfd that the other thread wakes after each `postMessage`. */
  readonly wakeupFd: number;
  /** Brings arrays of messages. */
  readonly port: MessagePort;
  /** Every message from the port, in order. */
  onMessage(message: unknown, loop: PacketLoop): void;
  readonly sources?: Iterable<readonly [fd: number, drain: (budget: number) => void]>;
  /** When `onTick` is due, on the clock of `monotonicMs()`; Infinity for never. */
  nextDueMs(): number;
  onTick(nowMs: number): void;
  /** After every round that did something: the place to flush what handlers queued. */
  afterBatch(): void;
}

/**
 * The loop of a packet worker: waits in poll(2), then messages, then every ready source once, then what is due.
 * It runs until `stop` and never yields to Node's event loop: inside it no promise settles, no timer
 * fires, and `port.postMessage` works. What a handler throws ends the loop and reaches the caller.
 */
export function runPacketLoop(options: PacketLoopOptions): void {
  const poller = createPoller();
  const inbox = createInbox(options.port);
  const drains = new Map<number, (budget: number) => void>();
  let running = true;
  const loop: PacketLoop = {
    add(fd, drain) {
      drains.set(fd, drain);
      poller.add(fd);
    },
    remove(fd) {
      drains.delete(fd);
      poller.remove(fd);
    },
    stop() {
      running = false;
    },
  };
  for (const [fd, drain] of options.sources ?? []) loop.add(fd, drain);
  poller.add(options.wakeupFd);

  // A message posted before this thread was up may have had its wake taken by nobody: look once.
  let moreMessages = true;
  while (running) {
    const waitMs = moreMessages ? 0 : Math.min(options.nextDueMs() - monotonicMs(), LONGEST_WAIT_MS);
    // A copy: handlers may add and remove sources, and the poller reuses its array.
    const ready = poller.wait(waitMs).slice();
    let worked = false;
    if (moreMessages || ready.includes(options.wakeupFd)) {
      // Drained before the port is read: a message posted in between leaves its wake standing.
      drainFd(options.wakeupFd);
      const taken = takeMessages(inbox, options, loop, () => running);
      moreMessages = taken === MESSAGES_PER_ROUND;
      worked = taken > 0;
    }
    for (const fd of ready) {
      if (!running) break;
      const drain = drains.get(fd);
      if (drain === undefined) continue;
      drain(BUDGET);
      worked = true;
    }
    const nowMs = monotonicMs();
    if (running && options.nextDueMs() <= nowMs) {
      options.onTick(nowMs);
      worked = true;
    }
    if (worked) options.afterBatch();
  }
}

/** The messages of a port one by one; undefined: there is none now. */
type Inbox = () => { readonly message: unknown } | undefined;

function createInbox(port: MessagePort): Inbox {
  let messages: readonly unknown[] = [];
  let at = 0;
  return () => {
    while (at === messages.length) {
      const received = receiveMessageOnPort(port);
      if (received === undefined) return undefined;
      messages = received.message as readonly unknown[];
      at = 0;
    }
    at += 1;
    return { message: messages[at - 1] };
  };
}

function takeMessages(
  inbox: Inbox,
  options: Pick<PacketLoopOptions, 'onMessage'>,
  loop: PacketLoop,
  running: () => boolean,
): number {
  let taken = 0;
  while (taken < MESSAGES_PER_ROUND && running()) {
    const received = inbox();
    if (received === undefined) break;
    taken += 1;
    if (received.message === PACKET_WORKER_STOP) loop.stop();
    else options.onMessage(received.message, loop);
  }
  return taken;
}
