import { MooringError } from '../../src/protocol/errors.ts';
import type { EndReason } from '../../src/protocol/lease.ts';
import type { SealingKey } from '../../src/protocol/relay-plane.ts';
import type { RequestName, ResultOf } from '../../src/protocol/signalling.ts';
import { Connection, type Credentials, disconnected, type Loss } from './connection.ts';
import { type AnyServerFrame, errorFromServer } from './frames.ts';
import { type BackOff, backOffMs } from './reconnect.ts';
import { type ParamsOf, RequestBook, type RequestOptions } from './request-book.ts';
import { systemTimers, type Timers } from './timers.ts';
import type { Connect } from './web-socket.ts';

export interface SignallingOptions {
  /** The door: `wss://…`. */
  readonly url: string;
  readonly connect: Connect;
  /** A token that is still good; `fresh` asks for a new one because the server refused the last. */
  readonly credentials: (fresh: boolean) => Promise<Credentials>;
  readonly sealingKey: SealingKey;
  readonly onEvent?: (event: SignallingEvent) => void;
  readonly timers?: Timers;
  /** Uniform in [0, 1). */
  readonly random?: () => number;
  /** Default 500 ms, doubling up to 30 s. */
  readonly backOff?: BackOff;
  /** From asking for a token to the answer to hello; default 10,000. */
  readonly connectTimeoutMs?: number;
}

export type SignallingEvent =
  | { readonly type: 'connected'; readonly hello: ResultOf<'hello'> }
  | { readonly type: 'disconnected'; readonly error: MooringError; readonly retryInMs: number }
  /** A lease ended without this client's asking. */
  | { readonly type: 'ended'; readonly lease: string; readonly reason: EndReason }
  /** The server refuses for good: nothing is tried any more until something changes. */
  | { readonly type: 'refused'; readonly error: MooringError };

export interface SignallingClient {
  /**
   * Sends a request, now or when connected; resolves with its result. Throws what the server reports, or
   * ERR_MOORING_TIMEOUT, ERR_MOORING_DISCONNECTED (`resend: false` only), ERR_MOORING_CLOSED.
   */
  request<K extends Exclude<RequestName, 'hello'>>(
    type: K,
    params: ParamsOf<K>,
    options?: RequestOptions,
  ): Promise<ResultOf<K>>;
  /** The network changed: find out at once whether the socket is alive, and do not wait to reconnect. */
  networkChanged(): void;
  readonly connected: boolean;
  /** Closes the socket and rejects what is outstanding with ERR_MOORING_CLOSED. */
  close(): void;
}

const TOKEN_EXPIRED = 'ERR_MOORING_TOKEN_EXPIRED';
/** A socket that lived this long was a success: the next failure starts the back-off afresh. */
const STABLE_AFTER_MS = 10_000;

/** A client of the `mooring.v1` door that keeps one socket, and reconnects as close codes say. */
export function createSignallingClient(options: SignallingOptions): SignallingClient {
  const timers = options.timers ?? systemTimers;
  const random = options.random ?? Math.random;
  const backOff = options.backOff ?? { firstMs: 500, longestMs: 30_000 };
  const emit = options.onEvent ?? (() => {});
  const book = new RequestBook(timers);

  let connection: Connection;
  let cancelRetry: (() => void) | null = null;
  let readyAtMs: number | null = null;
  let failures = 0;
  let freshToken = false;
  let stopped: MooringError | null = null;

  const connect = (): void => {
    cancelRetry = null;
    readyAtMs = null;
    connection = new Connection({
      url: options.url,
      connect: options.connect,
      credentials: () => options.credentials(freshToken),
      sealingKey: options.sealingKey,
      timers,
      connectTimeoutMs: options.connectTimeoutMs ?? 10_000,
      onReady(hello) {
        readyAtMs = timers.nowMs();
        freshToken = false;
        emit({ type: 'connected', hello });
        book.flush((frame) => connection.send(frame));
      },
      onFrame,
      onLost,
    });
  };

  function onFrame(frame: Exclude<AnyServerFrame, { type: 'welcome' }>): void {
    switch (frame.type) {
      case 'result':
        book.answer(frame.id, { result: frame.result });
        return;
      case 'error':
        if (frame.id === null) return;
        if (frame.error.code === TOKEN_EXPIRED && book.postpone(frame.id)) {
          // The socket stays good for what needs no token, but only another hello brings a new one.
          freshToken = true;
          connection.close();
          reconnect(errorFromServer(frame.error), 0);
          return;
        }
        book.answer(frame.id, { error: frame.error });
        return;
      case 'ended':
        emit({ type: 'ended', lease: frame.lease, reason: frame.reason });
        return;
      case 'goaway':
        connection.close();
        reconnect(disconnected('the signalling node is going away'), random() * frame.withinMs);
        return;
      default:
        frame satisfies never;
    }
  }

  function onLost({ error, rule, refusedCredentials }: Loss): void {
    // A token may have expired or been revoked since it was fetched: one new one is worth a try.
    const tryFresh = refusedCredentials && !freshToken;
    if (rule === 'never' && !tryFresh) {
      stop(error);
      emit({ type: 'refused', error });
      return;
    }
    const wasStable = readyAtMs !== null && timers.nowMs() - readyAtMs >= STABLE_AFTER_MS;
    if (wasStable) failures = 0;
    freshToken ||= tryFresh;
    const atOnce = failures === 0 && (rule === 'at-once' || tryFresh);
    const waitMs = atOnce ? 0 : backOffMs(failures, backOff, random);
    failures += 1;
    reconnect(error, Math.max(waitMs, error.retryAfterMs ?? 0));
  }

  function reconnect(error: MooringError, retryInMs: number): void {
    book.disconnected(error);
    cancelRetry = timers.after(retryInMs, connect);
    emit({ type: 'disconnected', error, retryInMs });
  }

  function stop(error: MooringError): void {
    stopped = error;
    cancelRetry?.();
    connection.close();
    book.rejectAll(error);
  }

  connect();

  return {
    request(type, params, requestOptions = {}) {
      if (stopped !== null) return Promise.reject(stopped);
      const send = connection.ready
        ? (frame: Parameters<Connection['send']>[0]) => connection.send(frame)
        : null;
      return book.add(type, params, requestOptions, send);
    },
    networkChanged() {
      if (stopped !== null) return;
      failures = 0;
      if (cancelRetry === null) {
        connection.suspect();
        return;
      }
      cancelRetry();
      connect();
    },
    get connected() {
      return connection.ready;
    },
    close() {
      if (stopped !== null) return;
      stop(new MooringError('ERR_MOORING_CLOSED', 'the signalling client was closed; create another one'));
    },
  };
}
