import { MooringError } from '../../src/protocol/errors.ts';
import type { RequestFrame, RequestName, RequestOf, ResultOf } from '../../src/protocol/signalling.ts';
import { errorFromServer, readResult } from './frames.ts';
import type { Timers } from './timers.ts';

/** The fields of a request without the envelope. */
export type ParamsOf<K extends RequestName> = Omit<RequestOf<K>, 'type' | 'id'>;

export interface RequestOptions {
  /** Rejects after this long without an answer, reconnections included; default 30,000. */
  readonly timeoutMs?: number;
  /** Send again on the next socket when this one dies; default true: every request is safe to repeat. */
  readonly resend?: boolean;
}

interface Outstanding {
  readonly type: RequestName;
  readonly frame: RequestFrame;
  readonly resend: boolean;
  sent: boolean;
  postponed: boolean;
  readonly resolve: (result: unknown) => void;
  readonly reject: (error: unknown) => void;
  readonly cancelTimeout: () => void;
}

/** What a signalling node takes of one socket. */
const MOST_OUTSTANDING = 16;

/** Requests by id: who waits for which answer, over however many sockets it takes. */
export class RequestBook {
  readonly #timers: Timers;
  readonly #outstanding = new Map<number, Outstanding>();
  /** Id 1 is hello. */
  #lastId = 1;

  constructor(timers: Timers) {
    this.#timers = timers;
  }

  /** Registers a request; `send` is given its frame now, or later by `flush` when it is null. */
  add<K extends RequestName>(
    type: K,
    params: ParamsOf<K>,
    options: RequestOptions,
    send: ((frame: RequestFrame) => void) | null,
  ): Promise<ResultOf<K>> {
    if (this.#outstanding.size >= MOST_OUTSTANDING) {
      return Promise.reject(
        new MooringError(
          'ERR_MOORING_BUSY',
          `${type}: ${MOST_OUTSTANDING} requests wait for an answer already; wait for one of them`,
          { temporary: true },
        ),
      );
    }
    this.#lastId += 1;
    const id = this.#lastId;
    const timeoutMs = options.timeoutMs ?? 30_000;
    return new Promise<ResultOf<K>>((resolve, reject) => {
      const cancelTimeout = this.#timers.after(timeoutMs, () => {
        this.#outstanding.delete(id);
        reject(
          new MooringError(
            'ERR_MOORING_TIMEOUT',
            `${type}: no answer from the signalling server within ${timeoutMs} ms; it is retried safely`,
            { temporary: true },
          ),
        );
      });
      const entry: Outstanding = {
        type,
        frame: { ...params, type, id } as unknown as RequestFrame,
        resend: options.resend ?? true,
        sent: send !== null,
        postponed: false,
        resolve: resolve as (result: unknown) => void,
        reject,
        cancelTimeout,
      };
      this.#outstanding.set(id, entry);
      send?.(entry.frame);
    });
  }

  /** Sends what waits for a socket. */
  flush(send: (frame: RequestFrame) => void): void {
    for (const entry of this.#outstanding.values()) {
      if (entry.sent) continue;
      entry.sent = true;
      send(entry.frame);
    }
  }

  /** The server answered `id`; false when nobody asked. */
  answer(
    id: number,
    outcome: { readonly result: unknown } | { readonly error: Parameters<typeof errorFromServer>[0] },
  ): boolean {
    const entry = this.#outstanding.get(id);
    if (entry === undefined) return false;
    this.#outstanding.delete(id);
    entry.cancelTimeout();
    if ('error' in outcome) {
      entry.reject(errorFromServer(outcome.error));
      return true;
    }
    try {
      entry.resolve(readResult(entry.type, outcome.result));
    } catch (error) {
      entry.reject(error);
    }
    return true;
  }

  /** Keeps a refused request for the next socket; false when it had that chance already. */
  postpone(id: number): boolean {
    const entry = this.#outstanding.get(id);
    if (entry === undefined || entry.postponed) return false;
    entry.postponed = true;
    return true;
  }

  /** The socket died: what may be repeated waits for the next one, the rest is rejected with `error`. */
  disconnected(error: MooringError): void {
    for (const [id, entry] of this.#outstanding) {
      if (!entry.sent) continue;
      entry.sent = false;
      if (!entry.resend) this.#reject(id, entry, error);
    }
  }

  /** Nothing will be answered any more. */
  rejectAll(error: MooringError): void {
    for (const [id, entry] of this.#outstanding) this.#reject(id, entry, error);
  }

  #reject(id: number, entry: Outstanding, error: MooringError): void {
    this.#outstanding.delete(id);
    entry.cancelTimeout();
    entry.reject(error);
  }
}
