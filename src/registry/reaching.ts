import { readFileSync } from 'node:fs';
import type { ConnectionOptions } from 'node:tls';
import { Cluster, type ClusterOptions, Redis, type RedisOptions } from 'ioredis';
import type { Logger } from 'pino';
import type { RedisAddress } from '../config/redis-url.ts';
import type { RedisSettings } from '../config/schema.ts';
import { MooringError } from '../protocol/errors.ts';
import { gatherWrites } from './gathering.ts';

/** One server, whichever it is just now, or all servers of a cluster. */
export type RedisClient = Redis | Cluster;

type Options = Omit<RedisOptions, 'replyMapping'>;

/** How long one sending of a command may take before it is sent again, milliseconds. */
export const COMMAND_TIMEOUT_MS = 1000;
const CONNECT_TIMEOUT_MS = 2000;
/** Something is asked and nothing comes for so long: the connection is thought dead, milliseconds. */
const SILENCE_MS = 2000;
/** The same trouble is told again after this time, milliseconds. */
const SAY_AGAIN_MS = 5000;
/** How often a cluster is asked who serves what, beside whenever something fails, milliseconds. */
const LOOK_EVERY_MS = 5000;

/** What every connection has, whatever the shape. */
const COMMON = {
  lazyConnect: true,
  // A resent script would run twice without our knowing; what is lost is sent again by its request id.
  autoResendUnfulfilledCommands: false,
  // Without it a command lost with its socket would never settle.
  commandTimeout: COMMAND_TIMEOUT_MS,
  connectTimeout: CONNECT_TIMEOUT_MS,
  socketTimeout: SILENCE_MS,
  enableAutoPipelining: false,
} satisfies Options;

/** Reads what `redis` names; throws ERR_MOORING_CONFIG for a file that cannot be read. */
function accessTo(address: Exclude<RedisAddress, { shape: 'socket' }>, files: RedisSettings) {
  const read = (setting: keyof RedisSettings) => {
    const file = files[setting];
    if (file === undefined) return undefined;
    try {
      return readFileSync(file, 'utf8');
    } catch (cause) {
      throw new MooringError(
        'ERR_MOORING_CONFIG',
        `redis.${setting} is ${file}, which cannot be read (${(cause as NodeJS.ErrnoException).code}); name a file that this user may read`,
        { cause, data: { file } },
      );
    }
  };
  const password = read('passwordFile')?.replace(/\r?\n$/, '') ?? address.password;
  const sentinelPassword = read('sentinelPasswordFile')?.replace(/\r?\n$/, '');
  const pem = { ca: read('caFile'), cert: read('certFile'), key: read('keyFile') };
  const tls: ConnectionOptions = Object.fromEntries(
    Object.entries(pem).filter(([, text]) => text !== undefined),
  );
  const server: Options = {
    ...(address.user === null ? {} : { username: address.user }),
    ...(password === null ? {} : { password }),
    ...(address.tls ? { tls } : {}),
  };
  const sentinel: Options = {
    ...(sentinelPassword === undefined ? {} : { sentinelPassword }),
    ...(address.tls ? { sentinelTLS: tls, enableTLSForSentinelMode: true } : {}),
  };
  return { server, sentinel };
}

/** A client for the servers of an address, not connected yet. */
export function clientFor(
  address: RedisAddress,
  files: RedisSettings,
  log: Logger,
  name: string,
): RedisClient {
  const client = unheardClient(address, files, name);
  const warn = warner(log);
  client.on('error', warn);
  client.on('node error', warn);
  gatherWrites(client);
  return client;
}

/** A lost server is a line, not a line for every attempt. */
function warner(log: Logger) {
  const said = new Map<string, number>();
  return (error: Error, server = '') => {
    const text = `${server} ${error.message}`;
    const isNews = performance.now() - (said.get(text) ?? Number.NEGATIVE_INFINITY) > SAY_AGAIN_MS;
    if (isNews) {
      if (said.size >= 64) said.clear();
      said.set(text, performance.now());
    }
    log[isNews ? 'warn' : 'debug']({ err: error.message, ...(server && { server }) }, 'registry connection');
  };
}

function unheardClient(address: RedisAddress, files: RedisSettings, name: string): RedisClient {
  const single: Options = {
    ...COMMON,
    connectionName: name,
    // A command waits for the connection as long as commandTimeout allows.
    maxRetriesPerRequest: null,
    retryStrategy: (attempt) => Math.min(50 * attempt, 1000),
    // A primary that became a replica, or lost its replicas: find the present one. The command is not resent here.
    reconnectOnError: ({ message }) =>
      message.startsWith('READONLY') || (address.shape === 'sentinel' && message.startsWith('NOREPLICAS')),
  };
  if (address.shape === 'socket') return new Redis(address.path, single);
  const { server, sentinel } = accessTo(address, files);
  switch (address.shape) {
    case 'standalone':
      return new Redis({ ...single, ...server, ...address.hosts[0], db: address.database });
    case 'sentinel':
      return new Redis({
        ...single,
        ...server,
        ...sentinel,
        sentinels: [...address.hosts],
        name: address.primaryName,
        sentinelCommandTimeout: COMMAND_TIMEOUT_MS,
        sentinelRetryStrategy: (attempt) => Math.min(50 * attempt, 1000),
      });
    case 'cluster':
      return new Cluster([...address.hosts], {
        ...CLUSTER,
        redisOptions: { ...COMMON, ...server, connectionName: name },
      });
  }
}

const CLUSTER: ClusterOptions = {
  lazyConnect: true,
  // What cannot be sent now is said to be so, and sent again by its request id: nothing waits here unseen.
  enableOfflineQueue: false,
  retryDelayOnFailover: 0,
  retryDelayOnClusterDown: 0,
  // These say that a command was not run; it goes to where it was told.
  maxRedirections: 8,
  retryDelayOnTryAgain: 50,
  clusterRetryStrategy: (attempt) => Math.min(50 * attempt, 1000),
  slotsRefreshTimeout: COMMAND_TIMEOUT_MS,
  slotsRefreshInterval: LOOK_EVERY_MS,
  // One listening connection a server, not one for all anchors: wake-ups stay in their slot.
  shardedSubscribers: true,
  // Certificates name hosts: a name is not to become an address before TLS has seen it.
  dnsLookup: (name, done) => done(null, name),
};

/** A connection of its own to one server of an address, which is used once: it does not come back when it is lost. */
export function oneServer(
  server: { readonly host: string; readonly port: number },
  address: RedisAddress,
  files: RedisSettings,
): Redis {
  const access = address.shape === 'socket' ? {} : accessTo(address, files).server;
  const redis = new Redis({ ...COMMON, ...access, ...server, retryStrategy: () => null });
  redis.on('error', () => undefined);
  return redis;
}

/**
 * Tells when the sentinels say that another server is the primary. One that is cut off from its replicas and from the
 * sentinels, but not from us, would not say so itself.
 */
export function watchSentinels(
  address: RedisAddress,
  files: RedisSettings,
  log: Logger,
  onSwitch: () => void,
): () => void {
  if (address.shape !== 'sentinel') return () => undefined;
  const { sentinel } = accessTo(address, files);
  let present = '';
  const watchers = address.hosts.map((host) => {
    const redis = new Redis({
      ...host,
      ...(sentinel.sentinelPassword == null ? {} : { password: sentinel.sentinelPassword }),
      ...(sentinel.sentinelTLS === undefined ? {} : { tls: sentinel.sentinelTLS }),
      connectTimeout: CONNECT_TIMEOUT_MS,
      retryStrategy: (attempt) => Math.min(100 * attempt, 2000),
      maxRetriesPerRequest: null,
    });
    redis.on('error', (error) =>
      log.debug({ err: error.message, sentinel: `${host.host}:${host.port}` }, 'a sentinel does not answer'),
    );
    redis.on('message', (_channel, text: string) => {
      const [name, , , to, port] = text.split(' ');
      // Each sentinel says it, the last some seconds after the first.
      if (name !== address.primaryName || present === `${to}:${port}`) return;
      present = `${to}:${port}`;
      log.warn({ primary: present }, 'the sentinels have promoted another primary');
      onSwitch();
    });
    redis.subscribe('+switch-master').catch(() => undefined);
    return redis;
  });
  return () => {
    for (const one of watchers) one.disconnect();
  };
}
