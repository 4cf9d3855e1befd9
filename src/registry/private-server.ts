import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { constants } from 'node:fs';
import { access, mkdir, open, readFile, rm } from 'node:fs/promises';
import { delimiter, join, resolve } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { Redis } from 'ioredis';
import type { Logger } from 'pino';
import { MooringError } from '../protocol/errors.ts';

const BINARIES = ['redis-server', 'valkey-server'];
/** Longest path of a unix socket on Linux, its end marker excluded (unix(7)). */
const SOCKET_PATH_MAX = 107;
const START_MS = 15_000;
const POLL_MS = 20;

function places(dataDir: string) {
  const folder = resolve(dataDir, 'registry');
  return { folder, socket: join(folder, 'redis.sock'), lock: join(folder, 'starting') };
}

/** Where the private server of `dataDir` listens: a unix socket. */
export function privateSocket(dataDir: string): string {
  return places(dataDir).socket;
}

/**
 * A private server on a unix socket in `dataDir`, its append-only file on: adopted when one runs there (left by
 * an unclean end, or another process's), else started. Returns the socket's path.
 */
export async function startOrAdopt(dataDir: string, log: Logger): Promise<string> {
  const { folder, socket, lock } = places(dataDir);
  if (Buffer.byteLength(socket) > SOCKET_PATH_MAX) {
    throw new MooringError(
      'ERR_MOORING_CONFIG',
      `--data-dir ${dataDir}: ${socket} is longer than ${SOCKET_PATH_MAX} octets, the most a unix socket may have; use a shorter directory or set REDIS_URL`,
      { data: { dataDir } },
    );
  }
  await mkdir(folder, { recursive: true, mode: 0o700 });
  const deadline = Date.now() + START_MS;
  for (;;) {
    if (await answers(socket)) {
      log.info({ socket }, 'registry: adopted the private Redis that runs here');
      return socket;
    }
    // Two servers on one append-only file would destroy it: one starter at a time.
    if (await takeLock(lock)) {
      try {
        if (!(await answers(socket))) await start(folder, socket, deadline, log);
        return socket;
      } finally {
        await rm(lock, { force: true });
      }
    }
    if (Date.now() > deadline) throw notUp(socket, 'another process has been starting it');
    await wait(POLL_MS);
  }
}

/** Shuts the private server down, unless another process uses it. */
export async function stopIfUnused(redis: Redis, name: string, dataDir: string, log: Logger): Promise<void> {
  const { socket } = places(dataDir);
  try {
    const clients = String(await redis.client('LIST'));
    const others = [...clients.matchAll(/ name=(mooring-\S+)/g)].filter(([, other]) => other !== name);
    if (others.length > 0) {
      log.info({ socket }, 'registry: another process uses the private Redis, it goes on');
      return;
    }
    // The answer to a shutdown is the end of the connection.
    const closed = once(redis, 'close');
    redis.shutdown('NOSAVE').catch(() => undefined);
    await closed;
    redis.disconnect();
    const deadline = Date.now() + START_MS;
    while ((await answers(socket)) && Date.now() < deadline) await wait(POLL_MS);
    log.info({ socket }, 'registry: stopped the private Redis');
  } catch (error) {
    log.warn({ err: error, socket }, 'registry: the private Redis did not answer when it was to stop');
  }
}

async function start(folder: string, socket: string, deadline: number, log: Logger): Promise<void> {
  const binary = await findBinary();
  const server = spawn(
    binary,
    [
      ...['--port', '0', '--unixsocket', socket, '--unixsocketperm', '700'],
      ...['--dir', folder, '--logfile', join(folder, 'redis.log')],
      ...['--appendonly', 'yes', '--appendfsync', 'everysec', '--save', ''],
      ...['--maxmemory-policy', 'noeviction', '--daemonize', 'no'],
    ],
    // Its own process group: it survives an unclean end of ours, and the next run adopts it.
    { detached: true, stdio: 'ignore' },
  );
  server.unref();
  let ended: string | undefined;
  server.once('error', (error) => {
    ended = error.message;
  });
  server.once('exit', (code, signal) => {
    ended = `it ended with ${signal ?? code}`;
  });
  while (!(await answers(socket))) {
    if (ended !== undefined) throw notUp(socket, `${ended}, see ${join(folder, 'redis.log')}`);
    if (Date.now() > deadline) {
      server.kill();
      throw notUp(socket, `no answer within ${START_MS} ms`);
    }
    await wait(POLL_MS);
  }
  log.info(
    { socket, binary, pid: server.pid },
    'registry: started a private Redis (set REDIS_URL to use another)',
  );
}

async function findBinary(): Promise<string> {
  for (const name of BINARIES) {
    for (const folder of (process.env.PATH ?? '').split(delimiter)) {
      const path = join(folder, name);
      const found = await access(path, constants.X_OK).then(
        () => true,
        () => false,
      );
      if (found) return path;
    }
  }
  throw new MooringError(
    'ERR_MOORING_REGISTRY_UNAVAILABLE',
    'no registry: neither redis-server nor valkey-server is on the PATH and no REDIS_URL is set; install one (`apt-get install redis-server`) or set REDIS_URL to a Redis or Valkey (7.0 or newer)',
  );
}

/** True when a server answers there and has loaded its file. */
async function answers(socket: string): Promise<boolean> {
  const redis = new Redis(socket, {
    lazyConnect: true,
    retryStrategy: () => null,
    maxRetriesPerRequest: 0,
    enableReadyCheck: false,
    connectTimeout: 1000,
    commandTimeout: 1000,
  });
  redis.on('error', () => undefined);
  try {
    await redis.connect();
    return (await redis.ping()) === 'PONG';
  } catch {
    return false;
  } finally {
    redis.disconnect();
  }
}

/** Makes the lock file; one whose maker is dead is taken over. */
async function takeLock(lock: string): Promise<boolean> {
  try {
    const file = await open(lock, 'wx', 0o600);
    await file.writeFile(String(process.pid));
    await file.close();
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    const maker = Number(await readFile(lock, 'utf8').catch(() => ''));
    if (maker > 0 && !isAlive(maker)) await rm(lock, { force: true });
    return false;
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}

function notUp(socket: string, why: string): MooringError {
  return new MooringError(
    'ERR_MOORING_REGISTRY_UNAVAILABLE',
    `the private Redis on ${socket} did not come up: ${why}; or set REDIS_URL to another`,
  );
}
