import { readFileSync } from 'node:fs';
import { WebSocket } from 'ws';
import type { MutualTls } from '../config/schema.ts';
import { checked } from '../protocol/checked.ts';
import { MooringError } from '../protocol/errors.ts';
import type { OperatorPlane, RelayPlane } from '../protocol/relay-plane.ts';
import type { Log } from '../telemetry/log.ts';
import { LeaseEnded, PLANE_MAX_FRAME_BYTES, PLANE_SUBPROTOCOL, type PlaneCall } from './plane-calls.ts';
import { errorOfFrame, type PlaneFrame, readPlaneFrame } from './plane-frame.ts';

/** A call that has not been answered by then has failed: milliseconds. */
const CALL_TIMEOUT_MS = 2_000;
/** A hand-over carries the state of up to 4,096 sessions to a third relay. */
const HAND_OVER_TIMEOUT_MS = 20_000;
const checkEnded = checked(LeaseEnded);

export interface PlaneClient extends RelayPlane, OperatorPlane {
  close(): void;
}

interface Waiting {
  resolve(value: never): void;
  reject(error: Error): void;
  readonly timer: NodeJS.Timeout;
}

/**
 * A relay's plane over mTLS. Connects at the first call and again after a loss; a call on a lost connection
 * fails with a temporary ERR_MOORING_RELAY_UNREACHABLE and is the caller's to repeat (every call is idempotent).
 */
export function connectPlane(options: {
  readonly url: string;
  readonly tls: MutualTls;
  readonly log: Log;
  readonly onEnded?: (event: LeaseEnded) => void;
}): PlaneClient {
  const waiting = new Map<number, Waiting>();
  let socket: WebSocket | null = null;
  let nextId = 1;

  const unreachable = (reason: string) =>
    new MooringError('ERR_MOORING_RELAY_UNREACHABLE', `relay at ${options.url}: ${reason}; try again`, {
      temporary: true,
      retryAfterMs: 500,
      data: { url: options.url },
    });

  function open(): WebSocket {
    const opened = new WebSocket(options.url, PLANE_SUBPROTOCOL, {
      cert: readFileSync(options.tls.certFile),
      key: readFileSync(options.tls.keyFile),
      ca: readFileSync(options.tls.caFile),
      perMessageDeflate: false,
      maxPayload: PLANE_MAX_FRAME_BYTES,
      handshakeTimeout: CALL_TIMEOUT_MS,
    });
    opened.on('message', (data) => {
      try {
        receive(readPlaneFrame(String(data)));
      } catch (error) {
        // Whoever speaks like this is not understood in anything else either: its calls fail, and are repeated.
        options.log.warn({ url: options.url, error: String(error) }, 'relay plane spoke nonsense');
        opened.close(1002, 'not a frame of the relay plane');
      }
    });
    opened.on('error', (error) =>
      options.log.warn({ url: options.url, error: error.message }, 'relay plane'),
    );
    opened.on('close', () => {
      if (socket === opened) socket = null;
      for (const id of [...waiting.keys()]) settle(id)?.reject(unreachable('the connection was lost'));
    });
    return opened;
  }

  function settle(id: number): Waiting | undefined {
    const entry = waiting.get(id);
    waiting.delete(id);
    if (entry !== undefined) clearTimeout(entry.timer);
    return entry;
  }

  function receive(frame: PlaneFrame): void {
    if (frame.type === 'ended') {
      options.onEnded?.(checkEnded(frame));
      return;
    }
    const entry = settle(Number(frame.id));
    if (entry === undefined) return;
    if (frame.error === undefined) entry.resolve(frame.result as never);
    else entry.reject(errorOfFrame(frame.error));
  }

  function call<T>(name: PlaneCall, params: unknown, timeoutMs = CALL_TIMEOUT_MS): Promise<T> {
    socket ??= open();
    const current = socket;
    const id = nextId++;
    return new Promise<T>((resolve, reject) => {
      const timer = setTimeout(
        () => settle(id)?.reject(unreachable(`no answer to ${name} within ${timeoutMs} ms`)),
        timeoutMs,
      );
      waiting.set(id, { resolve, reject, timer });
      const text = JSON.stringify({ id, call: name, params });
      if (current.readyState === WebSocket.OPEN) current.send(text);
      else current.once('open', () => current.send(text));
    });
  }

  return {
    install: (params) => call('install', params),
    apply: (params) => call('apply', params),
    rebind: (params) => call('rebind', params),
    prepare: (params) => call('prepare', params, HAND_OVER_TIMEOUT_MS),
    adopt: (params) => call('adopt', params, HAND_OVER_TIMEOUT_MS),
    promise: (params) => call('promise', params),
    handOver: (params) => call('handOver', params, HAND_OVER_TIMEOUT_MS),
    claim: (params) => call('claim', params),
    close() {
      socket?.terminate();
      socket = null;
    },
  };
}
