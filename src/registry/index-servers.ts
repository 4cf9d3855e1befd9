import { Cluster } from 'ioredis';
import type { Connection } from './connection.ts';
import { serversKey } from './keys.ts';

/** After so long every owner has told the devices what they hold (Registry.reindex), milliseconds. */
const REPAIRED_MS = 3_600_000;

/**
 * Which servers are known to have lost nothing of the devices' indexes that they hold. One that was promoted, or started
 * again, may have lost what it was told last: until owners have repaired that, an index says nothing before the
 * anchors were asked.
 */
export interface IndexServers {
  /** As scripts take them. */
  trusted(): string;
  /** Whether a server is to be trusted from now on. */
  trusts(server: string): Promise<boolean>;
}

export function indexServers(connection: Connection): IndexServers {
  let trusted = '|';
  return {
    trusted: () => trusted,
    async trusts(server) {
      if (trusted.includes(`|${server}|`)) return true;
      const sinceMs = (await connection.run('see_server', [serversKey()], [server])) as number;
      if (sinceMs < REPAIRED_MS) return false;
      trusted += `${server}|`;
      return true;
    },
  };
}

/** Where no server was ever noted the registry is new, and those that it begins with have lost nothing. */
export async function noteFirstServers(connection: Connection): Promise<void> {
  const { redis } = connection;
  if ((await connection.plain((one) => one.exists(serversKey()))) === 1) return;
  const nodes = redis instanceof Cluster ? redis.nodes('master') : [redis];
  const infos = await Promise.all(nodes.map((node) => node.info('replication')));
  const found = infos.flatMap((info) => /^master_replid:(\w+)/m.exec(info)?.[1] ?? []);
  await connection.plain((one) => one.hset(serversKey(), Object.fromEntries(found.map((id) => [id, 0]))));
}
