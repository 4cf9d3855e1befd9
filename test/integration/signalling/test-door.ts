import { once } from 'node:events';
import { pino } from 'pino';
import { WebSocket } from 'ws';
import { type RunningIssuer, startIssuer } from '../../../infra/issuer/issuer.ts';
import { createTokenVerifier, type TokenVerifier } from '../../../src/auth/verifier.ts';
import type { RequestFrame, ServerFrameOf } from '../../../src/protocol/signalling.ts';
import {
  createSignalling,
  type Signalling,
  type SignallingOptions,
} from '../../../src/signalling/signalling.ts';
import {
  accessTokenHash,
  createIdentity,
  type DeviceIdentity,
  fetchToken,
  signProof,
} from '../auth/device-identity.ts';

export const AUDIENCE = 'https://mooring.example/';
export const DOOR_URL = 'ws://door.example/v1';
export const SEALING_KEY = { kty: 'OKP', crv: 'X25519', x: 'S'.repeat(43) } as const;
export const SILENT = pino({ enabled: false });

/** A real issuer with the devices `laptop-1` … `laptop-<count>`, and a verifier that trusts it. */
export interface Authority {
  readonly issuer: RunningIssuer;
  readonly verifier: TokenVerifier;
  readonly devices: readonly DeviceIdentity[];
  close(): Promise<void>;
}

export async function startAuthority(count = 2): Promise<Authority> {
  const devices = await Promise.all(
    Array.from({ length: count }, (_, at) => createIdentity(`laptop-${at + 1}`)),
  );
  const issuer = await startIssuer({
    host: '127.0.0.1',
    port: 0,
    audience: AUDIENCE,
    devices: devices.map(({ clientId, publicJwk }) => ({ clientId, tenant: 'acme', publicJwk })),
  });
  const verifier = createTokenVerifier({
    issuers: [{ issuer: issuer.url, audience: AUDIENCE, algorithms: ['ES256'] }],
    clockToleranceS: 5,
    log: SILENT,
  });
  return {
    issuer,
    verifier,
    devices,
    async close() {
      verifier.close();
      await issuer.close();
    },
  };
}

export interface TestDoor {
  readonly signalling: Signalling;
  readonly port: number;
  readonly connect: (options?: ConnectOptions) => Promise<TestSocket>;
  close(): Promise<void>;
}

export interface ConnectOptions {
  readonly protocols?: readonly string[];
  readonly path?: string;
  readonly autoPong?: boolean;
  readonly perMessageDeflate?: boolean;
}

export async function openDoor(
  options: Omit<SignallingOptions, 'listen' | 'url' | 'log' | 'pools'> &
    Partial<Pick<SignallingOptions, 'pools'>>,
): Promise<TestDoor> {
  const signalling = createSignalling({
    listen: { host: '127.0.0.1', port: 0 },
    url: DOOR_URL,
    log: SILENT,
    pools: [{ name: 'whole', leaseMs: { default: 60_000, max: 120_000 }, maxLeasesPerDevice: 4 }],
    ...options,
  });
  const { port } = await signalling.listen();
  return {
    signalling,
    port,
    connect: (how = {}) => connect(port, how),
    close: () => signalling.close(0),
  };
}

export type ServerFrame = { [K in 'welcome' | 'result' | 'error' | 'ended' | 'goaway']: ServerFrameOf<K> }[
  | 'welcome'
  | 'result'
  | 'error'
  | 'ended'
  | 'goaway'];

/** A client of the door that keeps every frame it is sent, in order. */
export interface TestSocket {
  readonly ws: WebSocket;
  readonly frames: readonly ServerFrame[];
  /** The next frame not yet taken. Rejects when the socket closes first. */
  next(): Promise<ServerFrame>;
  /** Sends a request and resolves with its result or error frame; other frames stay to be taken. */
  ask(frame: Record<string, unknown> & { id: number }): Promise<ServerFrame>;
  send(frame: RequestFrame | Record<string, unknown> | string | Buffer): void;
  /** Says hello as `device`, which may hold another key than it is registered with; resolves with the answer. */
  hello(device: DeviceIdentity, authority: Authority, id?: number): Promise<ServerFrame>;
  /** A valid hello frame for this socket. */
  helloFrame(
    device: DeviceIdentity,
    authority: Authority,
    id?: number,
  ): Promise<Record<string, unknown> & { id: number }>;
  readonly closed: Promise<{ readonly code: number; readonly reason: string }>;
}

async function connect(port: number, options: ConnectOptions): Promise<TestSocket> {
  const url = `ws://127.0.0.1:${port}${options.path ?? '/v1'}`;
  const ws = new WebSocket(url, [...(options.protocols ?? ['mooring.v1'])], {
    perMessageDeflate: options.perMessageDeflate ?? false,
    ...(options.autoPong === undefined ? {} : { autoPong: options.autoPong }),
  });
  return observe(ws);
}

/** Waits for the socket to open and for its welcome; rejects with the HTTP answer when it is refused. */
export async function observe(ws: WebSocket): Promise<TestSocket> {
  const frames: ServerFrame[] = [];
  const waiting = new Set<() => void>();
  let taken = 0;
  let ended: { code: number; reason: string } | null = null;
  const wake = () => {
    for (const look of [...waiting]) look();
  };
  ws.on('message', (data) => {
    frames.push(JSON.parse(String(data)) as ServerFrame);
    wake();
  });
  const closed = new Promise<{ code: number; reason: string }>((resolve) => {
    ws.on('close', (code, reason) => {
      ended = { code, reason: reason.toString() };
      resolve(ended);
      wake();
    });
  });
  const until = <T>(look: () => T | undefined) =>
    new Promise<T>((resolve, reject) => {
      const attempt = () => {
        const found = look();
        if (found === undefined && ended === null) return;
        waiting.delete(attempt);
        if (found !== undefined) resolve(found);
        else reject(new Error(`the socket closed: ${JSON.stringify(ended)}`));
      };
      waiting.add(attempt);
      attempt();
    });
  const socket: TestSocket = {
    ws,
    frames,
    closed,
    next() {
      const at = taken;
      taken += 1;
      return until(() => frames[at]);
    },
    ask(frame) {
      socket.send(frame);
      return until(() => frames.find((answer) => 'id' in answer && answer.id === frame.id));
    },
    send: (frame) =>
      ws.send(typeof frame === 'string' || Buffer.isBuffer(frame) ? frame : JSON.stringify(frame)),
    async helloFrame(device, authority, id = 1) {
      const { nonce, url } = frames[0] as ServerFrameOf<'welcome'>;
      const client = authority.devices.find(({ clientId }) => clientId === device.clientId) ?? device;
      const token = await fetchToken(client, authority.issuer, AUDIENCE, device);
      const ath = accessTokenHash(token);
      const proof = await signProof(device, { htm: 'GET', htu: url, ath, nonce, seal: SEALING_KEY.x });
      return { type: 'hello', id, token, proof, sealingKey: SEALING_KEY };
    },
    hello: async (device, authority, id = 1) => socket.ask(await socket.helloFrame(device, authority, id)),
  };
  const refused = once(ws, 'unexpected-response').then(async ([, response]) => {
    const chunks: Buffer[] = [];
    for await (const chunk of response as AsyncIterable<Buffer>) chunks.push(chunk);
    throw new Error(`HTTP ${(response as { statusCode: number }).statusCode}: ${Buffer.concat(chunks)}`);
  });
  refused.catch(() => {});
  await Promise.race([once(ws, 'open'), refused]);
  await socket.next();
  return socket;
}
