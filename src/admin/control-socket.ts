import { chmodSync, mkdirSync, rmSync } from 'node:fs';
import { dirname } from 'node:path';
import { createAdminApp } from './app.ts';
import { localOperator } from './authentication.ts';
import type { AdminParts } from './parts.ts';

/** What the control socket answers beside the admin API: of this process alone. */
export interface Control {
  status(): Promise<object>;
  metrics(): Promise<string>;
}

/**
 * Serves the admin API, and what this process is doing, on a unix socket that only its owner can open: who may open it
 * is the operator. Rejects when the path cannot be bound.
 */
export async function serveControl(
  path: string,
  control: Control,
  parts: AdminParts,
): Promise<{ close(): Promise<void> }> {
  const app = createAdminApp({
    parts,
    authenticate: localOperator,
    metrics: () => control.metrics(),
    secure: false,
  });
  app.get('/status', () => control.status());

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
