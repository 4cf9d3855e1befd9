import type { AddressInfo } from 'node:net';
import { WebSocket, WebSocketServer } from 'ws';
import type { SignallingEvent, SignallingOptions } from '../../../clients/sdk/signalling.ts';
import type { WebSocketLike } from '../../../clients/sdk/web-socket.ts';
import { SUBPROTOCOL } from '../../../src/protocol/signalling.ts';

export type Frame = Record<string, unknown> & { readonly type: string; readonly id: number };

/** One accepted socket: what the client sent, in order, and the means to answer. */
export interface Accepted {
  readonly frames: readonly Frame[];
  send(frame: unknown): void;
  /** Text as it is. */
  sendText(text: string): void;
  close(code: number, reason?: string): void;
  /** Resolves with the next frame that was not taken yet. */
  next(): Promise<Frame>;
  readonly closed: Promise<number>;
}

/** A real WebSocket server that speaks what a test tells it to. */
export interface ScriptedDoor {
  readonly url: string;
  /** Sockets in the order in which they came. */
  next(): Promise<Accepted>;
  readonly accepted: number;
  close(): Promise<void>;
}

export const HELLO = {
  device: { tenant: 'acme', id: 'laptop-1' },
  leases: [],
  pingIntervalMs: 25_000,
};

/** `named`: what the door calls itself, when that is not where it is. */
export async function openScriptedDoor(named?: string): Promise<ScriptedDoor> {
  const server = new WebSocketServer({ host: '127.0.0.1', port: 0, handleProtocols: () => SUBPROTOCOL });
  await new Promise<void>((resolve) => server.once('listening', () => resolve()));
  const sockets = queue<Accepted>();
  let accepted = 0;
  const url = `ws://127.0.0.1:${(server.address() as AddressInfo).port}/v1`;
  server.on('connection', (ws) => {
    accepted += 1;
    const frames: Frame[] = [];
    const waiting = queue<Frame>();
    ws.on('message', (data) => {
      const frame = JSON.parse(String(data)) as Frame;
      frames.push(frame);
      waiting.put(frame);
    });
    const socket: Accepted = {
      frames,
      send: (frame) => ws.send(JSON.stringify(frame)),
      sendText: (text) => ws.send(text),
      close: (code, reason) => ws.close(code, reason),
      next: waiting.take,
      closed: new Promise((resolve) => ws.on('close', resolve)),
    };
    socket.send({ type: 'welcome', protocol: SUBPROTOCOL, nonce: `nonce-${accepted}`, url: named ?? url });
    sockets.put(socket);
  });
  return {
    url,
    next: sockets.take,
    get accepted() {
      return accepted;
    },
    close: () =>
      new Promise((resolve) => {
        for (const client of server.clients) client.terminate();
        server.close(() => resolve());
      }),
  };
}

/** Takes the next socket and answers its hello. */
export async function welcomeHello(door: ScriptedDoor, hello: object = HELLO): Promise<Accepted> {
  const socket = await door.next();
  const { id } = await socket.next();
  socket.send({ type: 'result', id, result: hello });
  return socket;
}

/** Options of a client of the door that waits only milliseconds, and a log of its events. */
export function clientOptions(door: ScriptedDoor): SignallingOptions & {
  readonly events: SignallingEvent[];
  readonly asked: boolean[];
} {
  const events: SignallingEvent[] = [];
  const asked: boolean[] = [];
  return {
    url: door.url,
    connect: (url, subprotocol) => new WebSocket(url, subprotocol) as WebSocketLike,
    credentials: async (fresh) => {
      asked.push(fresh);
      return {
        token: `token-${asked.length}-of-the-issuer`,
        proof: async ({ nonce, url, seal }) => `proof of ${nonce} for ${url} and ${seal}`,
      };
    },
    sealingKey: { kty: 'OKP', crv: 'X25519', x: 'S'.repeat(43) },
    onEvent: (event) => events.push(event),
    backOff: { firstMs: 5, longestMs: 20 },
    events,
    asked,
  };
}

function queue<T>(): { put(item: T): void; take(): Promise<T> } {
  const items: T[] = [];
  const takers: ((item: T) => void)[] = [];
  return {
    put(item) {
      const taker = takers.shift();
      if (taker === undefined) items.push(item);
      else taker(item);
    },
    take: () =>
      new Promise((resolve) => {
        const item = items.shift();
        if (item === undefined) takers.push(resolve);
        else resolve(item);
      }),
  };
}
