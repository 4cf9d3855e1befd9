import { Cluster } from 'ioredis';
import type { Connection } from './connection.ts';
import { indexName, serversKey } from './keys.ts';

/** After so long every owner has told the devices what they hold (Registry.reindex), milliseconds. */
const REPAIRED_MS = 3_600_000;

/**
 * Which servers are known to have lost nothing of the devices' indexes that they hold. One that was promoted, or started
 * again, may have lost what it was told last, and one whose indexes had another layout has been told nothing in this one: until
 * owners have repaired that, an index says nothing before the anchors were asked.
 */
export interface IndexServers {
  /** As scripts take them. */
  trusted(): string;
  /** Whether an index (keys.ts, `indexName`) is to be trusted from now on. */
  trusts(index: string): Promise<boolean>;
}

export function indexServers(connection: Connection): IndexServers {
  let trusted = '|';
  return {
    trusted: () => trusted,
    async trusts(index) {
      if (trusted.includes(`|${index}|`)) return true;
      const sinceMs = (await connection.run('see_server', [serversKey()], [index])) as number;
      if (sinceMs < REPAIRED_MS) return false;
      trusted += `${index}|`;
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
  await connection.plain((one) =>
    one.hset(serversKey(), Object.fromEntries(found.map((id) => [indexName(id), 0]))),
  );
}
