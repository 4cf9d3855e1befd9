import { readFileSync } from 'node:fs';
import { createServer } from 'node:https';
import type { TLSSocket } from 'node:tls';
import { type WebSocket, WebSocketServer } from 'ws';
import type { MutualTls } from '../config/schema.ts';
import { MooringError } from '../protocol/errors.ts';
import type { OperatorPlane, RelayPlane } from '../protocol/relay-plane.ts';
import type { Log } from '../telemetry/log.ts';
import {
  CALLERS,
  checkedParams,
  type LeaseEnded,
  PLANE_MAX_FRAME_BYTES,
  PLANE_SUBPROTOCOL,
  type PlaneCall,
  type PlaneRole,
  roleOf,
} from './plane-calls.ts';
import { readPlaneFrame } from './plane-frame.ts';

export interface PlaneServer {
  /** Tells every connected node that a lease has ended. */
  announceEnded(event: LeaseEnded): void;
  close(): Promise<void>;
}

/** How often the server looks for half-open connections, milliseconds. */
const PING_MS = 5_000;

/**
 * Serves a relay's plane to signalling nodes and other relays: JSON calls over a WebSocket whose both ends show
 * a certificate of the same private authority. Rejects when the address cannot be bound.
 */
export async function servePlane(options: {
  readonly listen: { readonly host: string; readonly port: number };
  readonly tls: MutualTls;
  readonly plane: RelayPlane & OperatorPlane;
  readonly log: Log;
}): Promise<PlaneServer> {
  const { plane, log } = options;
  const server = createServer({
    cert: readFileSync(options.tls.certFile),
    key: readFileSync(options.tls.keyFile),
    ca: readFileSync(options.tls.caFile),
    requestCert: true,
    rejectUnauthorized: true,
    minVersion: 'TLSv1.3',
    handshakeTimeout: 5_000,
  });
  const sockets = new WebSocketServer({
    server,
    maxPayload: PLANE_MAX_FRAME_BYTES,
    perMessageDeflate: false,
    handleProtocols: (offered) => (offered.has(PLANE_SUBPROTOCOL) ? PLANE_SUBPROTOCOL : false),
  });
  const answered = new WeakSet<WebSocket>();

  sockets.on('connection', (socket, request) => {
    const role = roleOf((request.socket as TLSSocket).getPeerCertificate().subject?.CN);
    if (socket.protocol !== PLANE_SUBPROTOCOL) {
      socket.close(1002, `speak ${PLANE_SUBPROTOCOL}`);
      return;
    }
    answered.add(socket);
    socket.on('pong', () => answered.add(socket));
    socket.on('error', (error) => log.warn({ error: error.message }, 'relay plane connection failed'));
    socket.on('message', (data) => void answer(socket, role, String(data)));
  });
  const pinger = setInterval(() => {
    for (const socket of sockets.clients) {
      if (!answered.delete(socket)) socket.terminate();
      else socket.ping();
    }
  }, PING_MS);

  async function answer(socket: WebSocket, role: PlaneRole | null, text: string): Promise<void> {
    let id: unknown;
    try {
      const frame = readPlaneFrame(text);
      id = frame.id;
      if (
        !Number.isSafeInteger(id) ||
        typeof frame.call !== 'string' ||
        !Object.hasOwn(checkedParams, frame.call)
      ) {
        throw new MooringError(
          'ERR_MOORING_BAD_INPUT',
          `call is ${JSON.stringify(frame.call)?.slice(0, 40)}; use one of ${Object.keys(checkedParams).join(', ')} with an integer id`,
        );
      }
      const call = frame.call as PlaneCall;
      if (role === null || !CALLERS[call].includes(role)) {
        throw new MooringError(
          'ERR_MOORING_FORBIDDEN',
          `${call} is not for this certificate; its common name must begin with ${CALLERS[call].join(': or ')}:`,
        );
      }
      const result = await plane[call](checkedParams[call](frame.params));
      socket.send(JSON.stringify({ id, result }));
    } catch (error) {
      if (!(error instanceof MooringError)) log.error({ err: error }, 'a call of the plane failed');
      socket.send(JSON.stringify({ id: id ?? null, error: describe(error) }));
    }
  }

  await new Promise<void>((resolve, reject) => {
    server.once('error', (cause) =>
      reject(
        new MooringError(
          'ERR_MOORING_LISTEN',
          `relay.plane.listen: ${options.listen.host}:${options.listen.port} cannot be bound; free the port or choose another`,
          { cause },
        ),
      ),
    );
    server.listen(options.listen.port, options.listen.host, resolve);
  });
  log.info({ listen: options.listen }, 'relay plane is open');

  return {
    announceEnded(event) {
      const text = JSON.stringify(event);
      for (const socket of sockets.clients) socket.send(text);
    },
    async close() {
      clearInterval(pinger);
      for (const socket of sockets.clients) socket.terminate();
      await new Promise<void>((resolve) => sockets.close(() => server.close(() => resolve())));
    },
  };
}

function describe(error: unknown): object {
  if (error instanceof MooringError) {
    return {
      code: error.code,
      rsip: error.rsip,
      message: error.message,
      temporary: error.temporary,
      retryAfterMs: error.retryAfterMs,
    };
  }
  return { code: 'ERR_MOORING_INTERNAL', message: 'the relay failed; its log says why', temporary: true };
}
