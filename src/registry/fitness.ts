import { Cluster, type Redis } from 'ioredis';
import type { Logger } from 'pino';
import type { RedisAddress } from '../config/redis-url.ts';
import type { RedisSettings } from '../config/schema.ts';
import { MooringError } from '../protocol/errors.ts';
import { oneServer, type RedisClient } from './reaching.ts';

/**
 * Refuses (ERR_MOORING_REGISTRY_UNFIT) servers of which one is too old or may evict leases: the one that is asked,
 * and every other that may take its place. Those that do not answer are named in the log.
 */
export async function refuseUnfit(
  client: RedisClient,
  shown: string,
  address: RedisAddress,
  files: RedisSettings,
  log: Logger,
): Promise<void> {
  if (client instanceof Cluster) {
    await Promise.all(
      (await serversOf(client, address.shape === 'cluster' && address.tls)).map((server) =>
        // A primary in a minority stops by itself.
        judgeAnother(oneServer(server, address, files), server, shown, false, log),
      ),
    );
    return;
  }
  const info = await client.info();
  refuseWrongShape(info, shown);
  const replicas = replicasIn(info);
  judge(info, shown, '', replicas.length > 0, log);
  await Promise.all(
    replicas.map((server) => judgeAnother(oneServer(server, address, files), server, shown, true, log)),
  );
}

interface Server {
  readonly host: string;
  readonly port: number;
}

/**
 * Every server of a cluster. The client knows those that serve or would take over just now; one that the others hold for failed,
 * as a busy one for a moment, is named by the cluster alone.
 */
async function serversOf(client: Cluster, tls: boolean): Promise<readonly Server[]> {
  const known = client
    .nodes('all')
    .map(({ options }) => ({ host: String(options.host), port: Number(options.port) }));
  const shards = await Promise.any(
    client.nodes('master').map((node) => node.call('CLUSTER', 'SHARDS') as Promise<Flat[]>),
  ).catch(() => []);
  const named = shards.flatMap((shard) =>
    (entry(shard, 'nodes') as Flat[]).flatMap((node) => serverIn(node, tls)),
  );
  return [...new Map([...known, ...named].map((one) => [`${one.host}:${one.port}`, one])).values()];
}

/** Names and values in turn. */
type Flat = readonly unknown[];

const entry = (of: Flat, name: string): unknown => of[of.indexOf(name) + 1];

/** By the name that clients are told; none while the cluster does not know it yet. */
function serverIn(node: Flat, tls: boolean): Server[] {
  const [host, port] = [entry(node, 'endpoint'), entry(node, tls ? 'tls-port' : 'port')];
  return typeof host === 'string' && host !== '' && host !== '?' ? [{ host, port: Number(port) }] : [];
}

/** One server that is not what its URL says would fail later, and less clearly. */
function refuseWrongShape(info: string, shown: string): void {
  const refuse = (what: string, remedy: string) =>
    new MooringError('ERR_MOORING_REGISTRY_UNFIT', `registry ${shown}: it is ${what}; ${remedy}`);
  if (/^redis_mode:sentinel/m.test(info)) {
    throw refuse('a sentinel', 'write redis+sentinel://HOST:PORT,…/PRIMARY');
  }
  if (/^cluster_enabled:1/m.test(info)) {
    throw refuse('a server of a cluster', 'write redis+cluster://HOST:PORT,…');
  }
  if (/^role:slave/m.test(info)) {
    const [, primary] = /^master_host:(.*?)\r?$/m.exec(info) ?? [];
    throw refuse(
      `a replica of ${primary}`,
      'name its primary, or the sentinels: redis+sentinel://HOST:PORT,…/PRIMARY',
    );
  }
}

async function judgeAnother(
  redis: Redis,
  { host, port }: Server,
  shown: string,
  isReplicated: boolean,
  log: Logger,
): Promise<void> {
  try {
    const where = `${shown}, server ${host}:${port}`;
    judge(await redis.info(), where, ` -h ${host} -p ${port}`, isReplicated, log);
  } catch (error) {
    if (error instanceof MooringError) throw error;
    log.warn(
      { server: `${host}:${port}`, err: (error as Error).message },
      'a server of the registry could not be asked whether it may evict leases',
    );
  } finally {
    redis.disconnect();
  }
}

function replicasIn(info: string): Server[] {
  return [...info.matchAll(/^slave\d+:ip=([^,]*),port=(\d+)/gm)].map(([, host, port]) => ({
    host: host as string,
    port: Number(port),
  }));
}

function judge(info: string, where: string, options: string, isReplicated: boolean, log: Logger): void {
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
      `registry ${where}: maxmemory-policy is ${policy}, which destroys leases; run \`redis-cli${options} CONFIG SET maxmemory-policy noeviction\` and set it in its configuration file`,
      { data: { policy } },
    );
  }
  if (isReplicated && field('min_slaves_good_slaves') === undefined) {
    log.warn(
      { registry: where },
      `a primary that is cut off may go on granting here: run \`redis-cli${options} CONFIG SET min-replicas-to-write 1\` and set it, with min-replicas-max-lag 10, in its configuration file (docs/redis.md)`,
    );
  }
  if (field('aof_enabled') === '0') {
    log.warn(
      { registry: where },
      'this server keeps no append-only file: after its restart, leases come back from the relays alone (docs/redis.md)',
    );
  }
}
