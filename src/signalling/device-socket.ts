import type { RawData, WebSocket } from 'ws';
import { MooringError } from '../protocol/errors.ts';
import type { EndReason } from '../protocol/lease.ts';
import {
  CLOSE,
  type RequestName,
  type RequestOf,
  type ResultOf,
  type ServerFrameOf,
  SUBPROTOCOL,
} from '../protocol/signalling.ts';
import type { Caller, Door } from './door.ts';
import { errorBody, isOurs } from './error-body.ts';
import { parseFrame } from './frame.ts';
import { createFrameRate } from './frame-rate.ts';
import { greet } from './hello.ts';
import type { Presence, PresentSocket } from './presence.ts';
import { handle, type WorkFrame } from './requests/handlers.ts';

/** One socket of the door, from `welcome` to its end. */
export interface DeviceSocket extends PresentSocket {
  /** Tells the device that a lease ended, unless it is freeing that lease on this socket. */
  pushEnded(lease: string, reason: EndReason): void;
  /** Asks the device to reconnect elsewhere within that time. */
  goaway(withinMs: number): void;
  /** Closes with `goaway`, after the answers that are under way. */
  depart(): void;
}

interface Serving {
  readonly door: Door;
  readonly presence: Presence<DeviceSocket>;
  /** Called once, when the device has said who it is. */
  readonly introduced: () => void;
}

type OutFrame = { [K in 'welcome' | 'result' | 'error' | 'ended' | 'goaway']: ServerFrameOf<K> }[
  | 'welcome'
  | 'result'
  | 'error'
  | 'ended'
  | 'goaway'];

/**
 * Serves a device on an open WebSocket: one `hello`, then requests in any number and order within the limits. Every
 * frame gets an answer or ends the socket, and nothing that arrives makes this throw.
 */
export function serveSocket(ws: WebSocket, { door, presence, introduced }: Serving): DeviceSocket {
  const { limits } = door;
  const rate = createFrameRate(limits.framesPerSecond, limits.frameBurst);
  const outstanding = new Set<number>();
  const nonce = Buffer.from(door.random(24)).toString('base64url');
  let state: 'stranger' | 'verifying' | 'open' | 'closing' = 'stranger';
  let caller: Caller | null = null;
  let heard = true;
  let rateRefusals = 0;
  let departing = false;

  const self: DeviceSocket = {
    takeOver: () => close(CLOSE.takenOver, 'a newer socket of this device took over'),
    pushEnded(lease, reason) {
      caller?.leases.delete(lease);
      if (caller?.freeing.has(lease)) return;
      send({ type: 'ended', lease, reason });
    },
    goaway: (withinMs) => send({ type: 'goaway', withinMs }),
    depart() {
      departing = true;
      if (outstanding.size === 0) close(CLOSE.goaway, 'this node is going away');
    },
  };

  const helloTimer = setTimeout(
    () => close(CLOSE.helloTimeout, `no hello within ${limits.helloTimeoutMs} ms`),
    limits.helloTimeoutMs,
  );
  const pingTimer = setInterval(() => {
    if (heard) {
      heard = false;
      ws.ping();
      return;
    }
    // After a stall of this process the answer may be waiting to be read: look once more before giving up.
    setImmediate(() => {
      if (!heard) close(CLOSE.pingTimeout, 'no answer to a ping');
    });
  }, limits.pingIntervalMs);

  ws.on('message', onMessage);
  ws.on('ping', () => onBeat());
  ws.on('pong', () => onBeat());
  // ws reports what broke the framing here and closes with its own code (1002, 1007, 1009).
  ws.on('error', (error) => door.log.debug({ reason: error.message }, 'socket broken'));
  ws.on('close', () => {
    state = 'closing';
    clearTimeout(helloTimer);
    clearInterval(pingTimer);
    if (caller !== null) presence.leave(caller.principal.device, self);
  });
  send({ type: 'welcome', protocol: SUBPROTOCOL, nonce, url: door.url });
  return self;

  function send(frame: OutFrame): void {
    if (state === 'closing') return;
    const text = JSON.stringify(frame);
    if (ws.bufferedAmount + text.length > limits.bufferedBytes) {
      close(CLOSE.slowReader, `more than ${limits.bufferedBytes} octets unread`);
      return;
    }
    ws.send(text, ignoreLoss);
  }

  function close(code: number, reason: string): void {
    if (state === 'closing') return;
    state = 'closing';
    ws.close(code, reason);
  }

  function fail(id: number | null, error: unknown): void {
    if (isOurs(error)) door.log.error({ err: error }, 'request failed');
    send({ type: 'error', id, error: errorBody(error) });
  }

  function succeed(id: number, result: ResultOf<RequestName>): void {
    send({ type: 'result', id, result });
  }

  function onBeat(): void {
    heard = true;
    if (rate.take(door.nowMs()) > 0) countRateRefusal();
  }

  function countRateRefusal(): void {
    rateRefusals += 1;
    if (rateRefusals > limits.rateRefusals) close(CLOSE.overloaded, 'too many frames');
  }

  function onMessage(data: RawData, isBinary: boolean): void {
    if (state === 'closing') return;
    heard = true;
    const waitMs = rate.take(door.nowMs());
    if (waitMs === 0) rateRefusals = 0;
    if (isBinary) {
      fail(
        null,
        new MooringError('ERR_MOORING_BAD_FRAME', 'the frame is binary; send text frames', { rsip: 207 }),
      );
      close(CLOSE.badFrame, 'binary frame');
      return;
    }
    const parsed = parseFrame(data.toString());
    const id = parsed.kind === 'bad' ? parsed.id : parsed.frame.id;
    if (waitMs > 0) {
      fail(id, tooMany(`${limits.framesPerSecond} frames a second`, 'send fewer', waitMs));
      countRateRefusal();
      return;
    }
    if (parsed.kind === 'bad') {
      fail(id, parsed.error);
      if (id === null || state !== 'open') close(CLOSE.badFrame, 'bad frame');
      return;
    }
    const { frame } = parsed;
    if (frame.type === 'hello') onHello(frame);
    else onWork(frame);
  }

  function onHello(frame: RequestOf<'hello'>): void {
    if (state !== 'stranger') {
      fail(frame.id, helloTwice());
      close(CLOSE.helloTwice, 'second hello');
      return;
    }
    state = 'verifying';
    greet(frame, nonce, door).then(
      (greeted) => {
        if (state !== 'verifying') return;
        state = 'open';
        caller = greeted;
        clearTimeout(helloTimer);
        introduced();
        presence.arrive(greeted.principal.device, self);
        door.answered('hello', null);
        succeed(frame.id, {
          device: greeted.principal.device,
          registration: greeted.registration,
          leases: [...greeted.leases.values()],
          pingIntervalMs: limits.pingIntervalMs,
        });
      },
      (error: unknown) => {
        door.answered('hello', error);
        fail(frame.id, error);
        if (errorBody(error).temporary) close(CLOSE.overloaded, 'hello cannot be judged now');
        else close(CLOSE.unauthenticated, 'hello refused');
      },
    );
  }

  function onWork(frame: WorkFrame): void {
    if (state !== 'open' || caller === null) {
      fail(frame.id, helloFirst(frame.type));
      close(CLOSE.badFrame, 'work before hello');
      return;
    }
    if (outstanding.has(frame.id)) {
      fail(null, duplicateId(frame.id));
      close(CLOSE.badFrame, 'request id used twice');
      return;
    }
    if (outstanding.size >= limits.outstanding) {
      const error = tooMany(`${limits.outstanding} unanswered requests`, 'wait for an answer', 1_000);
      fail(frame.id, error);
      return;
    }
    outstanding.add(frame.id);
    handle(frame, caller, door)
      .then(
        (result) => {
          door.answered(frame.type, null);
          succeed(frame.id, result);
        },
        (error: unknown) => {
          door.answered(frame.type, error);
          fail(frame.id, error);
        },
      )
      .finally(() => {
        outstanding.delete(frame.id);
        if (departing) self.depart();
      });
  }
}

/** A frame that cannot be sent any more: the socket's close event says the rest. */
function ignoreLoss(): void {}

function tooMany(limit: string, remedy: string, retryAfterMs: number): MooringError {
  return new MooringError('ERR_MOORING_TOO_MANY_REQUESTS', `a socket may have ${limit}; ${remedy}`, {
    temporary: true,
    retryAfterMs,
  });
}

function helloTwice(): MooringError {
  return new MooringError('ERR_MOORING_HELLO_TWICE', 'type is "hello" again; open a new socket for it', {
    rsip: 302,
    data: { field: 'type' },
  });
}

function helloFirst(type: string): MooringError {
  return new MooringError(
    'ERR_MOORING_HELLO_FIRST',
    `type is ${JSON.stringify(type)} before hello was answered; send hello and wait for its result`,
    { rsip: 301, data: { field: 'type' } },
  );
}

function duplicateId(id: number): MooringError {
  return new MooringError(
    'ERR_MOORING_BAD_FRAME',
    `id is ${id}, which an unanswered request has; count ids up`,
    { rsip: 202, data: { field: 'id' } },
  );
}
