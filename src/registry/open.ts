import { randomBytes } from 'node:crypto';
import { Redis } from 'ioredis';
import type { Logger } from 'pino';
import { parseRedisUrl, type RedisAddress, withoutPassword } from '../config/redis-url.ts';
import type { RedisSettings } from '../config/schema.ts';
import { MooringError } from '../protocol/errors.ts';
import { COMMANDS } from './commands.gen.ts';
import { type Connection, commandConnection } from './connection.ts';
import { cannotReach, isLasting } from './faults.ts';
import { refuseUnfit } from './fitness.ts';
import { noteFirstServers } from './index-servers.ts';
import { startOrAdopt, stopIfUnused } from './private-server.ts';
import { clientFor, type RedisClient, watchSentinels } from './reaching.ts';
import type { Registry } from './registry.ts';
import { createStore } from './store.ts';

/** Where servers are and what it takes to reach them. */
export interface RedisPlace {
  /** As `redisUrl` of the settings. */
  readonly url: string;
  /** Files that it needs; default none. */
  readonly redis?: RedisSettings | undefined;
  /** Name of the connection. */
  readonly name: string;
  /** How often it is looked whether servers have become unfit, milliseconds; default a minute. */
  readonly lookEveryMs?: number;
  readonly log: Logger;
}

export interface RegistryPlace extends Partial<Omit<RedisPlace, 'log'>> {
  /** Without `url`: where a private server keeps its files. */
  readonly dataDir?: string;
  /** Name of the connection; one that begins with `mooring-` (the default) keeps a private server from being stopped. */
  readonly name?: string;
  readonly log: Logger;
}

/** What was fit at the start may be told otherwise, or have been taken over by a server that never was: milliseconds. */
const LOOK_EVERY_MS = 60_000;
/** Sentinels or a cluster may be amid a fail-over: they are given so long, milliseconds. */
const FAIL_OVER_MS = 10_000;

/**
 * Opens the registry: the Redis or Valkey (7.0 or newer) of `url`, else a private server in `dataDir`, started,
 * or adopted when one still runs there. Throws ERR_MOORING_REGISTRY_UNAVAILABLE when there is neither,
 * ERR_MOORING_REGISTRY_UNFIT when a server could lose leases or is too old, ERR_MOORING_CONFIG for a wrong `url`.
 */
export async function openRegistry({
  url,
  redis: files,
  dataDir,
  name = `mooring-${process.pid}-${randomBytes(4).toString('hex')}`,
  lookEveryMs = LOOK_EVERY_MS,
  log,
}: RegistryPlace): Promise<Registry> {
  if (url !== undefined) {
    const { client, close } = await reachRedis({ url, redis: files, name, lookEveryMs, log });
    return opened(commandConnection(client), log, async () => close());
  }
  if (dataDir === undefined) {
    throw new MooringError(
      'ERR_MOORING_REGISTRY_UNAVAILABLE',
      'no registry: set REDIS_URL to a Redis or Valkey (7.0 or newer), or name a --data-dir for a private one',
    );
  }
  const socket = await startOrAdopt(dataDir, log);
  const { client, close } = await reachRedis({ url: socket, name, log });
  // Nobody but this program's next start can be its relay: nothing is to be waited for.
  return opened(commandConnection(client, COMMANDS, 0), log, async () => {
    if (client instanceof Redis) await stopIfUnused(client, name, dataDir, log);
    close();
  });
}

async function opened(connection: Connection, log: Logger, close: () => Promise<void>): Promise<Registry> {
  await noteFirstServers(connection);
  return createStore(connection, log, close);
}

/** Connects to servers and refuses unfit ones; those that become unfit later are named in the log. Throws like `openRegistry`. */
export async function reachRedis({
  url,
  redis: files = {},
  name,
  lookEveryMs = LOOK_EVERY_MS,
  log,
}: RedisPlace): Promise<{ readonly client: RedisClient; close(): void }> {
  const address = parseRedisUrl(url);
  const shown = withoutPassword(url);
  const client = clientFor(address, files, log, name);
  const endWatch = watchSentinels(address, files, log, () => client.disconnect(true));
  let closed = false;
  let looking: NodeJS.Timeout | undefined;
  const close = () => {
    closed = true;
    clearInterval(looking);
    endWatch();
    client.disconnect();
  };
  // One that is told of another primary just while it asks the sentinels for one would end for good.
  client.on('end', () => {
    setTimeout(() => {
      if (!closed) client.connect().catch(() => undefined);
    }, BEGIN_AGAIN_MS);
  });
  try {
    await connected(client, address, files);
    await refuseUnfit(client, shown, address, files, log);
    const quiet = log.child({}, { level: 'silent' });
    looking = setInterval(() => {
      refuseUnfit(client, shown, address, files, quiet).catch((error: unknown) => {
        // What else may be wrong now, amid a fail-over, passes or shows by itself.
        if (error instanceof MooringError && error.data.policy !== undefined)
          log.error({ registry: shown }, error.message);
      });
    }, lookEveryMs);
    looking.unref();
    return { client, close };
  } catch (cause) {
    close();
    if (cause instanceof MooringError) throw cause;
    throw cannotReach(cause instanceof Error ? cause : new Error(String(cause)), shown, address, files);
  }
}

/** Resolves when commands can be sent; rejects with the fault that says most. */
async function connected(client: RedisClient, address: RedisAddress, files: RedisSettings): Promise<void> {
  const isOne = address.shape === 'socket' || address.shape === 'standalone';
  let fault: Error | undefined;
  let timer: NodeJS.Timeout | undefined;
  let note = (_: NodeFault) => {};
  let ready = () => {};
  const opened = new Promise<void>((resolve, reject) => {
    ready = resolve;
    note = (error) => {
      const inner = error.lastNodeError ?? error;
      // "None of them answers" says less than why one did not.
      if (fault === undefined || !SUMMARY.test(inner.message)) fault = inner;
      if (isOne || isLasting(inner, address, files)) reject(inner);
    };
    for (const event of FAULTS) client.on(event, note);
    client.on('ready', ready);
    // Sentinels and clusters are tried again by the client itself.
    client.connect().catch((error: Error) => isOne && reject(fault ?? error));
    if (!isOne) {
      const silent = () => reject(fault ?? new Error(`no answer within ${FAIL_OVER_MS} ms`));
      timer = setTimeout(silent, FAIL_OVER_MS);
    }
  });
  try {
    await opened;
  } finally {
    clearTimeout(timer);
    for (const event of FAULTS) client.off(event, note);
    client.off('ready', ready);
  }
}

/** How soon a client that has ended by itself begins anew, milliseconds. */
const BEGIN_AGAIN_MS = 100;

type NodeFault = Error & { readonly lastNodeError?: Error };
const FAULTS = ['error', 'node error', 'sentinelError'];
const SUMMARY = /All sentinels|startup nodes|Connection is closed/;
