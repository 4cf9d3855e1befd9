import { readFileSync } from 'node:fs';
import { createServer as createHttpServer, type RequestListener, type Server } from 'node:http';
import { createServer as createHttpsServer } from 'node:https';
import type { AdminSettings } from '../config/schema.ts';
import { badInput, MooringError } from '../protocol/errors.ts';
import type { Log } from '../telemetry/log.ts';
import { type AdminApp, createAdminApp } from './app.ts';

/** Whoever has not sent a request's headers by then is not waited for. */
const HEADERS_MS = 5_000;
const CONNECTIONS = 256;

export interface AdminListener {
  /** Where it listens. */
  readonly port: number;
  close(): Promise<void>;
}

/** Serves the admin API to operators elsewhere. Rejects when it cannot listen there. */
export async function serveAdmin(
  settings: AdminSettings,
  options: Omit<AdminApp, 'secure' | 'serverFactory'>,
  log: Log,
): Promise<AdminListener> {
  const { listen, tls } = settings;
  const app = createAdminApp({
    ...options,
    secure: settings.url.startsWith('https:'),
    serverFactory: (handler) => serverFor(tls, handler as unknown as RequestListener),
  });
  try {
    await app.listen({ host: listen.host, port: listen.port });
  } catch (cause) {
    throw new MooringError(
      'ERR_MOORING_LISTEN',
      `admin.listen: ${listen.host}:${listen.port} cannot be bound; free the port or choose another`,
      { cause },
    );
  }
  const address = app.server.address();
  const port = typeof address === 'object' && address !== null ? address.port : listen.port;
  log.info({ host: listen.host, port, url: settings.url }, 'admin API listens');
  return { port, close: () => app.close() };
}

function serverFor(tls: AdminSettings['tls'], handler: RequestListener): Server {
  const limits = {
    headersTimeout: HEADERS_MS,
    requestTimeout: 30_000,
    keepAliveTimeout: HEADERS_MS,
    connectionsCheckingInterval: 1_000,
    maxHeaderSize: 16_384,
  };
  const server =
    tls === undefined
      ? createHttpServer(limits, handler)
      : createHttpsServer(
          {
            ...limits,
            handshakeTimeout: HEADERS_MS,
            minVersion: 'TLSv1.2',
            cert: readPem(tls.certFile, 'admin.tls.certFile'),
            key: readPem(tls.keyFile, 'admin.tls.keyFile'),
            // Asked for, not demanded: a token will do as well. Who may enter by it is judged at each request.
            requestCert: true,
            rejectUnauthorized: false,
            // Without an authority of its own nobody's certificate makes an operator, also none that the system trusts.
            ca:
              tls.operatorCaFile === undefined
                ? []
                : [readPem(tls.operatorCaFile, 'admin.tls.operatorCaFile')],
          },
          handler,
        );
  server.maxConnections = CONNECTIONS;
  return server;
}

function readPem(file: string, field: string): Buffer {
  try {
    return readFileSync(file);
  } catch (cause) {
    throw badInput(field, file, `name a readable PEM file (${(cause as NodeJS.ErrnoException).code})`);
  }
}
