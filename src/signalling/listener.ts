import { readFileSync } from 'node:fs';
import { createServer as createHttpServer, type RequestListener, type Server } from 'node:http';
import { createServer as createHttpsServer } from 'node:https';
import type { Socket } from 'node:net';
import Fastify, { type FastifyInstance } from 'fastify';
import { contains, parseAddress, parsePrefix } from '../protocol/address.ts';
import { badInput, MooringError } from '../protocol/errors.ts';
import type { SignallingLimits } from './limits.ts';
import { createStrangers } from './strangers.ts';

export interface ListenAddress {
  readonly host: string;
  /** 0 chooses a free one. */
  readonly port: number;
}

/** PEM files. */
export interface TlsFiles {
  readonly certFile: string;
  readonly keyFile: string;
}

/** The HTTP side of the door, and the account of connections that have not introduced themselves. */
export interface Listener {
  readonly app: FastifyInstance;
  /** Ends the count of a connection as a stranger's. */
  introduced(connection: Socket): void;
}

/**
 * The HTTP server that WebSockets are upgraded from, every timeout explicit. `/healthz` answers 200, or 503 when
 * `serving` is false.
 */
export function createListener(
  tls: TlsFiles | undefined,
  limits: SignallingLimits,
  serving: () => boolean,
): Listener {
  const strangers = createStrangers(limits.strangersPerAddress);
  const releases = new Map<string, () => void>();
  const app = Fastify({
    logger: false,
    bodyLimit: 1_024,
    forceCloseConnections: true,
    serverFactory(handler) {
      const server = createServer(handler, tls, limits);
      server.maxConnections = limits.connections;
      server.on('connection', admit);
      return server;
    },
  });
  app.get('/healthz', (_request, reply) =>
    serving() ? reply.send({ status: 'serving' }) : reply.code(503).send({ status: 'draining' }),
  );
  return { app, introduced: (connection) => releases.get(connectionKey(connection))?.() };

  function admit(connection: Socket): void {
    const { remoteAddress } = connection;
    const release = remoteAddress === undefined ? null : strangers.admit(remoteAddress);
    if (release === null) {
      connection.destroy();
      return;
    }
    const key = connectionKey(connection);
    releases.set(key, release);
    connection.once('close', () => {
      release();
      releases.delete(key);
    });
  }
}

/** A TLS socket and the TCP connection under it are two objects with one transport address. */
function connectionKey({ remoteAddress, remotePort }: Socket): string {
  return `${remoteAddress}|${remotePort}`;
}

function createServer(handler: RequestListener, tls: TlsFiles | undefined, limits: SignallingLimits): Server {
  const timeouts = {
    headersTimeout: limits.headersTimeoutMs,
    requestTimeout: limits.requestTimeoutMs,
    keepAliveTimeout: limits.headersTimeoutMs,
    connectionsCheckingInterval: Math.min(1_000, limits.headersTimeoutMs),
    maxHeaderSize: 8_192,
  };
  if (tls === undefined) return createHttpServer(timeouts, handler);
  return createHttpsServer(
    {
      ...timeouts,
      handshakeTimeout: limits.headersTimeoutMs,
      minVersion: 'TLSv1.2',
      key: readPem(tls.keyFile, 'tls.keyFile'),
      cert: readPem(tls.certFile, 'tls.certFile'),
    },
    handler,
  );
}

function readPem(file: string, field: string): Buffer {
  try {
    return readFileSync(file);
  } catch (cause) {
    throw badInput(field, file, `name a readable PEM file (${(cause as NodeJS.ErrnoException).code})`);
  }
}

const LOOPBACK = [parsePrefix('127.0.0.0/8'), parsePrefix('::1')];

/** Refuses to carry tokens in clear over a network, unless the operator has said that something else encrypts. */
export function requireTls(listen: ListenAddress, tls: TlsFiles | undefined, plaintext: boolean): void {
  if (tls !== undefined || plaintext || listen.host === 'localhost') return;
  const address = parseAddress(listen.host, 'listen.host');
  if (LOOPBACK.some((prefix) => contains(prefix, address))) return;
  throw new MooringError(
    'ERR_MOORING_PLAINTEXT',
    `signalling would listen on ${listen.host} without TLS; give tls.certFile and tls.keyFile, listen on 127.0.0.1, ` +
      'or set plaintext: true where a proxy in front terminates TLS',
    { data: { field: 'tls' } },
  );
}
