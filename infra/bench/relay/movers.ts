/** Devices that move from one socket to another as fast as the relay lets them: bind, challenge, proof, sync, and again. */

import type { UdpSocket } from '../../../src/linux/udp.ts';
import type { SocketAddress } from '../../../src/protocol/address.ts';
import { ControlChannel, peekIndex, peekType } from '../../../src/tunnel/control.ts';
import type { ControlDraft, ControlMessage } from '../../../src/tunnel/message.ts';
import { TYPE } from '../../../src/tunnel/wire.ts';

/** What is not answered is said again. */
const AGAIN_MS = 500;

export interface Mover {
  readonly index: number;
  readonly root: Uint8Array;
}

class Moving {
  readonly #channel: ControlChannel;
  readonly #boot = crypto.getRandomValues(new BigUint64Array(1))[0]! | 1n;
  #heard: ControlMessage | undefined;
  #generation = 0;
  saidMs = 0;

  constructor({ index, root }: Mover) {
    this.#channel = new ControlChannel({ root, index, boot: this.#boot, sends: 'to-relay' });
  }

  /** Where it moves to: even generations by one socket, odd ones by the other. */
  get side(): 0 | 1 {
    return (this.#generation & 1) as 0 | 1;
  }

  bind(): Uint8Array {
    return this.#say({ kind: 'bind', oldPath: 'dead' });
  }

  move(): Uint8Array {
    this.#generation += 1;
    return this.bind();
  }

  /** What to say to a datagram: a bind or a proof, nothing, or 'moved' when the move is complete. */
  take(buffer: Uint8Array, at: number, length: number): Uint8Array | 'moved' | null {
    const message = this.#channel.open(buffer, at, length);
    if (typeof message === 'string' || message.echoBoot !== this.#boot) return null;
    const isFirst = this.#heard === undefined;
    this.#heard = message;
    // What was said before it was heard named no incarnation of the relay.
    if (isFirst) return this.bind();
    const { kind, generation, cookie, counter } = message;
    if (generation !== this.#generation) return null;
    if (kind === 'challenge') return this.#say({ kind: 'proof', cookie, echoCounter: counter });
    return kind === 'sync' ? 'moved' : null;
  }

  #say(draft: ControlDraft): Uint8Array {
    const { epoch = 0n, boot: echoBoot = 0n } = this.#heard ?? {};
    return this.#channel.seal({ epoch, echoBoot, generation: this.#generation, ...draft });
  }
}

export interface Movers {
  /** Moves all of them for so long; the moves that were completed. */
  run(forMs: number): Promise<{ moves: number; tookMs: number }>;
}

export function createMovers(
  movers: readonly Mover[],
  sockets: readonly [UdpSocket, UdpSocket],
  relay: SocketAddress,
): Movers {
  const moving = new Map(movers.map((mover) => [mover.index, new Moving(mover)]));
  let nowMs = 0;

  const send = (mover: Moving, datagram: Uint8Array): void => {
    mover.saidMs = nowMs;
    sockets[mover.side].queue(relay, datagram, 0, datagram.length);
  };

  /** Answers what has arrived; datagrams and completed moves. */
  const listen = (): { heard: number; moves: number } => {
    let heard = 0;
    let moves = 0;
    for (const socket of sockets) {
      const count = socket.receive();
      heard += count;
      for (let i = 0; i < count; i += 1) {
        const [at, length] = [socket.at(i), socket.length(i)];
        if (peekType(socket.buffer, at, length) !== TYPE.control) continue;
        const mover = moving.get(peekIndex(socket.buffer, at, length));
        const answer = mover?.take(socket.buffer, at, length) ?? null;
        if (mover === undefined || answer === null) continue;
        if (answer === 'moved') moves += 1;
        send(mover, answer === 'moved' ? mover.move() : answer);
      }
    }
    return { heard, moves };
  };

  return {
    async run(forMs) {
      const startMs = performance.now();
      nowMs = startMs;
      let moves = 0;
      for (const mover of moving.values()) send(mover, mover.move());
      for (; nowMs - startMs < forMs; nowMs = performance.now()) {
        const round = listen();
        moves += round.moves;
        if (round.heard === 0) {
          for (const mover of moving.values()) if (nowMs - mover.saidMs > AGAIN_MS) send(mover, mover.bind());
        }
        for (const socket of sockets) socket.flush();
        if (round.heard === 0) await new Promise((resolve) => setTimeout(resolve, 0));
      }
      return { moves, tookMs: performance.now() - startMs };
    },
  };
}
