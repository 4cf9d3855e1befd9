import { randomBytes } from 'node:crypto';
import type { Redis } from 'ioredis';
import type { Logger } from 'pino';
import { MooringError } from '../protocol/errors.ts';
import { COMMANDS } from './commands.gen.ts';
import { commandConnection, connectRedis } from './connection.ts';
import { startOrAdopt, stopIfUnused } from './private-server.ts';
import type { Registry } from './registry.ts';
import { createStore } from './store.ts';

export interface RegistryPlace {
  /** `redis://`, `rediss://` or the path of a unix socket. */
  readonly url?: string;
  /** Without `url`: where a private server keeps its files. */
  readonly dataDir?: string;
  /** Name of the connection; one that begins with `mooring-` (the default) keeps a private server from being stopped. */
  readonly name?: string;
  readonly log: Logger;
}

/**
 * Opens the registry: the Redis or Valkey (7.0 or newer) of `url`, else a private server in `dataDir`, started,
 * or adopted when one still runs there. Throws ERR_MOORING_REGISTRY_UNAVAILABLE when there is neither,
 * ERR_MOORING_REGISTRY_UNFIT when the server could lose leases or is too old.
 */
export async function openRegistry({
  url,
  dataDir,
  name = `mooring-${process.pid}-${randomBytes(4).toString('hex')}`,
  log,
}: RegistryPlace): Promise<Registry> {
  if (url !== undefined) {
    const redis = await connected(url, log, name);
    return createStore(commandConnection(redis), log, async () => redis.disconnect());
  }
  if (dataDir === undefined) {
    throw new MooringError(
      'ERR_MOORING_REGISTRY_UNAVAILABLE',
      'no registry: set REDIS_URL to a Redis or Valkey (7.0 or newer), or name a --data-dir for a private one',
    );
  }
  const socket = await startOrAdopt(dataDir, log);
  const redis = await connected(socket, log, name);
  // Nobody but this program's next start can be its relay: nothing is to be waited for.
  return createStore(commandConnection(redis, COMMANDS, 0), log, async () => {
    await stopIfUnused(redis, name, dataDir, log);
    redis.disconnect();
  });
}

async function connected(where: string, log: Logger, name: string): Promise<Redis> {
  const redis = connectRedis(where, log, name);
  try {
    await redis.connect();
    await refuseUnfit(redis, withoutPassword(where));
    return redis;
  } catch (cause) {
    redis.disconnect();
    if (cause instanceof MooringError) throw cause;
    throw new MooringError(
      'ERR_MOORING_REGISTRY_UNAVAILABLE',
      `registry ${withoutPassword(where)}: ${cause instanceof Error ? cause.message : cause}; check REDIS_URL and that the server runs`,
      { temporary: true, cause },
    );
  }
}

/** Refuses a server that is too old or that may evict leases. */
async function refuseUnfit(redis: Redis, where: string): Promise<void> {
  const info = await redis.info();
  const field = (name: string) => new RegExp(`^${name}:(.*?)\\r?$`, 'm').exec(info)?.[1];
  const version = field('valkey_version') ?? field('redis_version') ?? 'unknown';
  if (!(Number.parseInt(version, 10) >= 7)) {
    throw new MooringError(
      'ERR_MOORING_REGISTRY_UNFIT',
      `registry ${where}: its version is ${version}; use Redis 7.0 or Valkey 7.2 or newer`,
      { data: { version } },
    );
  }
  const policy = field('maxmemory_policy') ?? 'unknown';
  if (policy !== 'noeviction') {
    throw new MooringError(
      'ERR_MOORING_REGISTRY_UNFIT',
      `registry ${where}: maxmemory-policy is ${policy}, which destroys leases; run \`redis-cli CONFIG SET maxmemory-policy noeviction\` and set it in its configuration file`,
      { data: { policy } },
    );
  }
}

function withoutPassword(where: string): string {
  return where.replace(/^(rediss?:\/\/)[^/]*@/, '$1');
}
