import type { Redis } from 'ioredis';
import type { Commands, Connection } from '../../../src/registry/connection.ts';
import { refusalIn } from '../../../src/registry/refusals.ts';
import type { Registry } from '../../../src/registry/registry.ts';
import { silent } from '../../integration/registry/real-redis.ts';
import type { Chance } from './chance.ts';
import type { Product } from './product.ts';
import type { Servers } from './servers.ts';
import { QUARANTINE_MS } from './shape.ts';

/** A registry that looks at a database itself, at once, and under another time if need be. */
export interface Audit {
  readonly store: Registry;
  /** Where the store looks, for anchors: a database, and how far ahead of now. */
  look(database: number, aheadMs?: number): void;
}

export function createAudit(servers: Servers, chance: Chance, product: Product, commands: Commands): Audit {
  let at = { database: -1, aheadMs: 0 };
  const connection: Connection = {
    redis: undefined as unknown as Redis,
    quarantineMs: QUARANTINE_MS,
    random: (octets) => chance.octets(octets),
    run: async (command, keys, args) => {
      const { name } = commands[command];
      const isAnchor = keys[0]!.includes('{a:');
      const database = isAnchor ? at.database : servers.of(keys[0]!).current;
      const text = args.map(String);
      const { answer } = await servers.execute('audit', name, keys, text, database, at.aheadMs);
      const refused = refusalIn(answer);
      return refused === undefined ? (answer as never) : { refused };
    },
    plain: async (send) => {
      const direct = new Proxy({} as Redis, {
        get:
          (_, name) =>
          (...all: unknown[]) =>
            servers.plain(String(name), all, servers.of(String(all[0])).current),
      });
      return send(direct);
    },
  };
  const store = product.createStore(connection, silent, async () => undefined);
  return {
    store,
    look(database, aheadMs = 0) {
      at = { database, aheadMs };
    },
  };
}
