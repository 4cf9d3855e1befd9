import type { Server } from 'node:http';
import Fastify, { type FastifyInstance, type FastifyReply, type FastifyRequest } from 'fastify';
import { MooringError } from '../protocol/errors.ts';
import type { Authenticate } from './authentication.ts';
import { openApiDocument } from './openapi.ts';
import type { Operation } from './operation.ts';
import { OPERATIONS } from './operations.ts';
import { type Operator, requireRight } from './operator.ts';
import type { AdminParts } from './parts.ts';
import { problemOf, refusedByServer } from './problem.ts';

/** A pool with some hundred anchors fits. */
const BODY_LIMIT = 64 * 1024;

export interface AdminApp {
  readonly parts: AdminParts;
  readonly authenticate: Authenticate;
  /** Prometheus' text. */
  readonly metrics: () => Promise<string>;
  /** Over TLS: browsers are told to stay with it. */
  readonly secure: boolean;
  readonly serverFactory?: (handler: (...args: never[]) => void) => Server;
}

declare module 'fastify' {
  interface FastifyRequest {
    operator?: Operator;
  }
}

/**
 * The admin API: each operation behind authentication and its scope, in front of its body being read. Whatever goes
 * wrong is answered by problem details, and every change is logged with who made it.
 */
export function createAdminApp(options: AdminApp): FastifyInstance {
  const { parts, authenticate } = options;
  const app = Fastify({
    logger: false,
    bodyLimit: BODY_LIMIT,
    requestTimeout: 30_000,
    forceCloseConnections: true,
    exposeHeadRoutes: false,
    // Longer than any request line: what is too long is refused by its schema, as everything is.
    routerOptions: { maxParamLength: 16_384 },
    frameworkErrors: (error, request, reply) => refuse(error, request, reply),
    ...(options.serverFactory === undefined ? {} : { serverFactory: options.serverFactory as never }),
  });
  app.removeContentTypeParser('text/plain');
  app.decorateRequest('operator', undefined);

  app.addHook('onSend', async (_request, reply) => {
    reply.headers({
      'cache-control': 'no-store',
      'content-security-policy': "default-src 'none'; frame-ancestors 'none'",
      'referrer-policy': 'no-referrer',
      'x-content-type-options': 'nosniff',
      ...(options.secure ? { 'strict-transport-security': 'max-age=31536000' } : {}),
    });
  });
  app.setErrorHandler((error, request, reply) => refuse(error, request, reply));
  app.setNotFoundHandler((request) => {
    const path = request.url.split('?')[0]?.slice(0, 80);
    throw new MooringError(
      'ERR_MOORING_NO_ROUTE',
      `${request.method} ${path}: there is no such operation; /v1/openapi.json lists them`,
    );
  });

  function refuse(error: unknown, request: FastifyRequest, reply: FastifyReply) {
    const problem = problemOf(refusedByServer(error));
    if (problem.code === 'ERR_MOORING_INTERNAL') parts.log.error({ err: error }, 'admin request failed');
    audit(request, problem.status, problem.code);
    if (problem.status === 401) reply.header('www-authenticate', challenge(problem.code));
    if (problem.retryAfterMs !== undefined) {
      reply.header('retry-after', String(Math.max(1, Math.ceil(problem.retryAfterMs / 1000))));
    }
    return reply.status(problem.status).type('application/problem+json').send(problem);
  }

  function audit(request: FastifyRequest, status: number, code?: string): void {
    if (request.method === 'GET' || request.operator === undefined) return;
    const { operator, method, url } = request;
    parts.log.info({ operator: operator.name, tenant: operator.tenant, method, url, status, code }, 'admin');
  }

  for (const operation of OPERATIONS) {
    app.route({
      method: operation.method,
      url: operation.path.replaceAll(/\{(\w+)\}/g, ':$1'),
      onRequest: async (request) => {
        const operator = await authenticate(request);
        request.operator = operator;
        requireRight(operator, operation.scope, operation.perTenant);
      },
      handler: async (request, reply) => {
        const answer = await operation.run(callOf(request, request.operator as Operator, parts));
        audit(request, 200);
        if (operation.revised) reply.header('etag', `"${(answer as { revision: string }).revision}"`);
        // Said as it is: a serializer could only leave something out.
        return reply.type('application/json; charset=utf-8').send(JSON.stringify(answer));
      },
    });
  }

  const readers = {
    onRequest: async (request: FastifyRequest) => {
      requireRight(await authenticate(request), 'mooring:read', false);
    },
  };
  app.get('/metrics', readers, async (_request, reply) =>
    reply.type('text/plain; version=0.0.4').send(await options.metrics()),
  );
  // What it says is public: it is in the repository.
  app.get('/v1/openapi.json', async () => openApiDocument());
  app.get('/healthz', async () => ({ status: 'serving' }));
  return app;
}

function callOf(
  request: FastifyRequest,
  operator: Operator,
  parts: AdminParts,
): Parameters<Operation['run']>[0] {
  const ifMatch = request.headers['if-match'];
  return {
    params: { ...(request.params as object) },
    query: { ...(request.query as object) },
    body: request.body,
    ifMatch: ifMatch === undefined ? undefined : ifMatch.replace(/^(?:W\/)?"(.*)"$/, '$1'),
    operator,
    parts,
  };
}

/** RFC 6750 §3, RFC 9449 §7.1. */
function challenge(code: string): string {
  const error = code === 'ERR_MOORING_UNAUTHENTICATED' ? '' : ', error="invalid_token"';
  return `Bearer realm="mooring"${error}, DPoP realm="mooring", algs="ES256 ES384 EdDSA"`;
}
