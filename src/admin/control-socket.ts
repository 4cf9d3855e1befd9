import { chmodSync, mkdirSync, rmSync } from 'node:fs';
import { dirname } from 'node:path';
import Fastify from 'fastify';
import Type from 'typebox';
import { checked } from '../protocol/checked.ts';
import { MooringError } from '../protocol/errors.ts';
import type { Log } from '../telemetry/log.ts';

/** What an operator on this machine may ask of the running program. */
export interface Control {
  status(): Promise<object>;
  moveAnchor(anchor: string, to: string): Promise<object>;
  metrics(): Promise<string>;
}

const checkMove = checked(
  Type.Object({ to: Type.String({ pattern: '^[a-z0-9-]{1,32}$' }) }, { additionalProperties: false }),
);

/**
 * Serves `control` over HTTP on a unix socket that only its owner can open: who may open it is who may command
 * the program. Rejects when the path cannot be bound.
 */
export async function serveControl(
  path: string,
  control: Control,
  log: Log,
): Promise<{ close(): Promise<void> }> {
  const app = Fastify({ bodyLimit: 16_384, requestTimeout: 30_000, forceCloseConnections: true });
  app.setErrorHandler((error, _request, reply) => {
    if (error instanceof MooringError) {
      const { code, message, temporary } = error;
      return reply.status(temporary ? 503 : 400).send({ error: { code, message, temporary } });
    }
    log.error({ error }, 'control request failed');
    const message = error instanceof Error ? error.message : String(error);
    return reply.status(500).send({ error: { code: 'ERR_MOORING_INTERNAL', message, temporary: false } });
  });
  app.get('/status', () => control.status());
  app.get('/metrics', async (_request, reply) =>
    reply.type('text/plain; version=0.0.4').send(await control.metrics()),
  );
  app.post('/anchors/:id/move', ({ params, body }) =>
    control.moveAnchor((params as { id: string }).id, checkMove(body).to),
  );

  mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
  rmSync(path, { force: true });
  const mask = process.umask(0o177);
  try {
    await app.listen({ path });
  } finally {
    process.umask(mask);
  }
  chmodSync(path, 0o600);
  return { close: () => app.close() };
}
