import { MooringError } from '../../src/protocol/errors.ts';
import type { SealingKey } from '../../src/protocol/relay-plane.ts';
import { CLOSE, type RequestFrame, type ResultOf, SUBPROTOCOL } from '../../src/protocol/signalling.ts';
import { type AnyServerFrame, errorFromServer, readResult, readServerFrame } from './frames.ts';
import { type ReconnectRule, reconnectRule } from './reconnect.ts';
import type { Timers } from './timers.ts';
import type { Connect, WebSocketLike } from './web-socket.ts';

/** An access token and the means to prove that it is this device's. */
export interface Credentials {
  readonly token: string;
  /** A DPoP proof for `url` with the server's nonce, the token's hash (RFC 9449 §4.2) and the sealing key. */
  proof(challenge: { readonly nonce: string; readonly url: string; readonly seal: string }): Promise<string>;
}

export interface ConnectionOptions {
  readonly url: string;
  readonly connect: Connect;
  readonly credentials: () => Promise<Credentials>;
  readonly sealingKey: SealingKey;
  readonly timers: Timers;
  /** From the start to the answer to hello, milliseconds. */
  readonly connectTimeoutMs: number;
  readonly onReady: (hello: ResultOf<'hello'>) => void;
  /** Every frame behind hello. */
  readonly onFrame: (frame: Exclude<AnyServerFrame, { type: 'welcome' }>) => void;
  /** Called once: this connection is over. `rule` says whether another may follow. */
  readonly onLost: (loss: Loss) => void;
}

export interface Loss {
  readonly error: MooringError;
  readonly rule: ReconnectRule;
  /** The server judged the credentials, and refused them. */
  readonly refusedCredentials: boolean;
}

/** How long a suspected socket has to show life. */
const SUSPECT_TIMEOUT_MS = 2_000;
/** The id of hello: requests number on from here. */
export const HELLO_ID = 1;

/** One socket from opening to loss: welcome, hello, then frames both ways under a watchdog. */
export class Connection {
  readonly #options: ConnectionOptions;
  #socket: WebSocketLike | null = null;
  #over = false;
  #ready = false;
  #pingIntervalMs = 0;
  #heardAtMs: number;
  /** Frames received. */
  #heard = 0;
  #cancelTimer: () => void;
  #nextPingId = Number.MAX_SAFE_INTEGER;

  constructor(options: ConnectionOptions) {
    this.#options = options;
    this.#heardAtMs = options.timers.nowMs();
    this.#cancelTimer = options.timers.after(options.connectTimeoutMs, () =>
      this.#lose(
        disconnected(`${options.url}: no answer to hello within ${options.connectTimeoutMs} ms`),
        'after-a-wait',
        CLOSE.pingTimeout,
      ),
    );
    options.credentials().then(
      (credentials) => this.#open(credentials),
      (error: unknown) => {
        const failure =
          error instanceof MooringError
            ? error
            : new MooringError('ERR_MOORING_TOKEN', `no access token: ${reasonOf(error)}`, {
                temporary: true,
                cause: error,
              });
        this.#lose(failure, failure.temporary ? 'after-a-wait' : 'never');
      },
    );
  }

  get ready(): boolean {
    return this.#ready && !this.#over;
  }

  send(frame: RequestFrame): void {
    try {
      this.#socket?.send(JSON.stringify(frame));
    } catch (cause) {
      this.#lose(disconnected(`${this.#options.url}: sending failed: ${reasonOf(cause)}`), 'after-a-wait');
    }
  }

  /** The network changed: the server has a short while to show that this socket still reaches it. */
  suspect(): void {
    if (this.ready) this.#ping(SUSPECT_TIMEOUT_MS);
  }

  /** Closes the socket without telling `onLost`. */
  close(): void {
    this.#end(1000);
  }

  #open(credentials: Credentials): void {
    if (this.#over) return;
    const { url, connect } = this.#options;
    let socket: WebSocketLike;
    try {
      socket = connect(url, SUBPROTOCOL);
    } catch (cause) {
      this.#lose(
        new MooringError(
          'ERR_MOORING_SIGNALLING_URL',
          `${url}: ${reasonOf(cause)}; use a wss:// URL of a signalling node`,
          { cause },
        ),
        'never',
      );
      return;
    }
    this.#socket = socket;
    let problem = '';
    socket.addEventListener('error', (event) => {
      problem = event.message ?? '';
    });
    socket.addEventListener('close', (event) => {
      const why = event.reason || problem || 'the socket closed';
      this.#lose(
        disconnected(`${url}: ${why} (close code ${event.code})`),
        reconnectRule(event.code),
        undefined,
        event.code === CLOSE.unauthenticated,
      );
    });
    socket.addEventListener('message', (event) => {
      if (this.#over) return;
      this.#heardAtMs = this.#options.timers.nowMs();
      this.#heard += 1;
      try {
        this.#receive(readServerFrame(event.data), credentials);
      } catch (error) {
        this.#lose(
          error instanceof MooringError ? error : disconnected(reasonOf(error)),
          'after-a-wait',
          CLOSE.badFrame,
        );
      }
    });
  }

  #receive(frame: AnyServerFrame, credentials: Credentials): void {
    if (frame.type === 'welcome') {
      void this.#hello(frame.nonce, frame.url, credentials);
    } else if (this.#ready) {
      this.#options.onFrame(frame);
    } else if (frame.type === 'result' && frame.id === HELLO_ID) {
      const hello = readResult('hello', frame.result);
      this.#ready = true;
      this.#pingIntervalMs = hello.pingIntervalMs;
      this.#watch();
      this.#options.onReady(hello);
    } else if (frame.type === 'error') {
      const error = errorFromServer(frame.error);
      this.#lose(error, error.temporary ? 'after-a-wait' : 'never', 1000, !error.temporary);
    } else if (frame.type === 'goaway') {
      this.#options.onFrame(frame);
    }
  }

  async #hello(nonce: string, url: string, credentials: Credentials): Promise<void> {
    // A proof for another door than this one could be relayed there, and open a session in our name.
    if (!isSameUrl(url, this.#options.url)) {
      const message = `${this.#options.url} calls itself ${url}; configure the URL that the door is known by`;
      this.#lose(new MooringError('ERR_MOORING_WRONG_DOOR', message), 'never', 1000);
      return;
    }
    try {
      const proof = await credentials.proof({ nonce, url, seal: this.#options.sealingKey.x });
      const { token } = credentials;
      this.send({ type: 'hello', id: HELLO_ID, token, proof, sealingKey: this.#options.sealingKey });
    } catch (cause) {
      this.#lose(
        new MooringError('ERR_MOORING_PROOF', `no DPoP proof for ${url}: ${reasonOf(cause)}`, { cause }),
        'never',
        1000,
      );
    }
  }

  /** Pings when the server has been silent for its interval, gives the socket up after two. */
  #watch(): void {
    this.#cancelTimer();
    const silentMs = this.#options.timers.nowMs() - this.#heardAtMs;
    if (silentMs >= this.#pingIntervalMs) this.#ping(this.#pingIntervalMs);
    else this.#cancelTimer = this.#options.timers.after(this.#pingIntervalMs - silentMs, () => this.#watch());
  }

  #ping(answerWithinMs: number): void {
    this.#cancelTimer();
    const askedAtMs = this.#options.timers.nowMs();
    const heardBefore = this.#heard;
    const silentSinceMs = this.#heardAtMs;
    this.#cancelTimer = this.#options.timers.after(answerWithinMs, () => {
      if (this.#heard > heardBefore) this.#watch();
      else
        this.#lose(
          disconnected(
            `${this.#options.url}: silent for ${Math.round(askedAtMs - silentSinceMs + answerWithinMs)} ms`,
          ),
          'at-once',
          CLOSE.pingTimeout,
        );
    });
    this.send({ type: 'ping', id: this.#nextPingId-- });
  }

  #lose(error: MooringError, rule: ReconnectRule, closeCode?: number, refusedCredentials = false): void {
    if (this.#over) return;
    this.#end(closeCode);
    this.#options.onLost({ error, rule, refusedCredentials });
  }

  #end(closeCode: number | undefined): void {
    this.#over = true;
    this.#cancelTimer();
    try {
      this.#socket?.close(closeCode);
    } catch {
      // A socket that never opened may refuse to close; it is forgotten all the same.
    }
  }
}

/** False for text that is no URL at all: it comes from the server. */
function isSameUrl(one: string, other: string): boolean {
  return URL.canParse(one) && new URL(one).href === new URL(other).href;
}

export function disconnected(why: string): MooringError {
  return new MooringError('ERR_MOORING_DISCONNECTED', why, { temporary: true });
}

export function reasonOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
