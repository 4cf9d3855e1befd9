import { createHash } from 'node:crypto';
import type { AnchorSettings, PoolSettings } from '../config/schema.ts';
import { MooringError } from '../protocol/errors.ts';
import { askAnchor } from './asking.ts';
import type { Connection } from './connection.ts';
import type { Declaring } from './declaring.ts';
import { poolKey, poolPolicyKey, poolRevisionKey, poolsKey } from './keys.ts';
import { SPI_COOLING_MS } from './plan.ts';
import { disjoint } from './prefix-sets.ts';
import {
  type Anchor,
  type AnchorDeclaration,
  deliveredPrefixes,
  type Owner,
  type Registry,
} from './registry.ts';
import { hostPrefix, takeSpace } from './space.ts';

/** Policy of a pool: all that is said of it but its anchors. */
export type PoolPolicy = Omit<PoolSettings, 'anchors'>;

/** Who says what a pool is. A file's word counts when it is another than its last one. */
export type PoolSource = 'file' | 'operator';

export interface AnchorView {
  readonly id: string;
  readonly pool: string;
  readonly home: string;
  readonly endpoints: readonly string[];
  /** Leasable now. */
  readonly prefixes: readonly string[];
  /** Taken out: nothing of it is granted any more, and leases on it end at the latest when the time is over. */
  readonly draining: readonly { readonly prefix: string; readonly remainingMs: number }[];
  /** Nothing is granted any more, and the anchor goes with its last lease. */
  readonly retiring: boolean;
  /** Leases that it can hold. */
  readonly capacity: number;
  /** Leases that it holds. */
  readonly held: number;
  /** Leases that a stranger could get now. */
  readonly free: number;
  readonly owner: Owner | null;
}

export interface PoolView {
  readonly policy: PoolPolicy;
  readonly retiring: boolean;
  readonly anchors: readonly AnchorView[];
}

/** Every pool and every anchor, as of a revision that rises with every change. */
export interface Roster {
  readonly revision: number;
  readonly policies: readonly PoolPolicy[];
  readonly anchors: readonly Anchor[];
}

/** What operators do with pools; every change is made while leases live on. */
export interface Pools {
  /** Every pool, retiring ones too, in the order of their names. */
  pools(): Promise<readonly PoolView[]>;
  /** What is declared now; null when nothing has been since `revision`: cheap enough to be asked often. */
  roster(revision?: number): Promise<Roster | null>;
  /** `declarePool` for each pool of a configuration file. */
  declareFile(pools: readonly PoolSettings[]): Promise<void>;
  pool(name: string): Promise<PoolView | null>;
  /** How full an anchor is and who owns it. */
  anchorView(id: string): Promise<AnchorView | null>;
  /**
   * Makes the pool as said: new, or with another policy, grown or shrunk. Anchors that are not named stay as they are:
   * one goes by `retire: true` in its settings, as does a pool. Idempotent. Throws ERR_MOORING_OVERLAP where an address is
   * another anchor's, ERR_MOORING_ANCHOR_IN_USE where leases would lose their shape, ERR_MOORING_BAD_INPUT naming a field.
   */
  declarePool(pool: PoolSettings, source: PoolSource): Promise<PoolView>;
  /** Drains every anchor of the pool. ERR_MOORING_UNKNOWN_POOL. */
  retirePool(name: string): Promise<PoolView>;
  /** Drains an anchor: no new leases, and it goes with its last one. ERR_MOORING_UNKNOWN_ANCHOR. */
  retireAnchor(id: string): Promise<AnchorView>;
  /** Lets go of what nobody holds or just held any more of a draining anchor: its owner's task, again and again. */
  finishDraining(id: string): Promise<void>;
}

/** Pools over the registry's anchors. */
export function poolCommands(
  connection: Connection,
  anchors: Pick<Registry, 'anchor' | 'owner'> & Declaring,
): Pools {
  const policyOf = async (name: string): Promise<PoolPolicy | null> => {
    const json = await connection.plain((redis) => redis.hget(poolPolicyKey(name), 'policy'));
    return json === null ? null : (JSON.parse(json) as PoolPolicy);
  };
  const names = async () => (await connection.plain((redis) => redis.smembers(poolsKey()))).sort();
  const anchorIds = async (pool: string) =>
    (await connection.plain((redis) => redis.hkeys(poolPolicyKey(pool))))
      .filter((field) => field.startsWith('anchor:'))
      .map((field) => field.slice('anchor:'.length))
      .sort();

  async function anchorView(id: string): Promise<AnchorView | null> {
    const [anchor, owner] = await Promise.all([anchors.anchor(id), anchors.owner(id)]);
    if (anchor === null) return null;
    const answer = await askAnchor(connection, 'occupancy', id, []);
    const [nowMs, held, free] = answer as unknown as [number, number, number];
    const { pool, home, endpoints, prefixes, draining, retiring, capacity } = anchor;
    return {
      ...{ id, pool, home, endpoints, prefixes, retiring, capacity, held, free, owner },
      draining: draining.map(({ prefix, untilMs }) => ({
        prefix,
        remainingMs: Math.max(0, untilMs - nowMs),
      })),
    };
  }

  async function view(policy: PoolPolicy): Promise<PoolView> {
    const views = await Promise.all((await anchorIds(policy.name)).map(anchorView));
    return {
      policy,
      retiring: policy.retire === true,
      anchors: views.flatMap((one) => (one?.pool === policy.name ? [one] : [])),
    };
  }

  /** Whether this is what the source said last time: then an operator's later word stands. */
  async function isRepeated(
    pool: string,
    field: string,
    digest: string,
    source: PoolSource,
  ): Promise<boolean> {
    if (source === 'operator') return false;
    return (await connection.plain((redis) => redis.hget(poolPolicyKey(pool), field))) === digest;
  }

  async function declareAnchor(policy: PoolPolicy, anchor: AnchorSettings): Promise<void> {
    const declaration = declarationOf(policy, anchor);
    const known = await anchors.anchor(anchor.id);
    const kept = known === null ? [] : deliveredPrefixes(known);
    const take = (prefixes: readonly string[], endpoints: readonly string[]) =>
      takeSpace(connection, anchor.id, [...disjoint(prefixes), ...endpoints.map(hostPrefix)]);
    // What it had and what it is to have, until it has it: nobody else gets either meanwhile.
    await take([...declaration.prefixes, ...kept], declaration.endpoints);
    try {
      const declared = await anchors.declareAnchor(declaration);
      await take(deliveredPrefixes(declared), declared.endpoints);
    } catch (error) {
      await take(kept, known?.endpoints ?? []).catch(() => undefined);
      throw error;
    }
    await connection.plain((redis) => redis.hset(poolPolicyKey(policy.name), `anchor:${anchor.id}`, ''));
    await changed();
  }

  async function writePolicy(policy: PoolPolicy): Promise<void> {
    await connection.plain((redis) => redis.sadd(poolsKey(), policy.name));
    await connection.plain((redis) =>
      redis.hset(poolPolicyKey(policy.name), 'policy', JSON.stringify(policy)),
    );
  }

  async function apply({ anchors: wanted, ...said }: PoolSettings, source: PoolSource): Promise<PoolPolicy> {
    const note = async (field: string, digest: string) => {
      if (source === 'file')
        await connection.plain((redis) => redis.hset(poolPolicyKey(said.name), field, digest));
    };
    const stands = await isRepeated(said.name, 'said', digestOf(said), source);
    const policy = (stands ? await policyOf(said.name) : null) ?? said;
    const named = new Set<string>();
    // Anchors first: what cannot be is refused before anything of the policy has changed.
    for (const anchor of wanted) {
      const digest = digestOf(anchor);
      if (await isRepeated(said.name, `said:${anchor.id}`, digest, source)) continue;
      await declareAnchor(policy, anchor);
      await note(`said:${anchor.id}`, digest);
      named.add(anchor.id);
    }
    if (stands) return policy;
    await writePolicy(policy);
    for (const id of await anchorIds(said.name)) {
      // The others follow the policy as they are.
      const anchor = named.has(id) ? null : await anchors.anchor(id);
      if (anchor !== null && anchor.pool === said.name) {
        const { home, endpoints, prefixes, retiring } = anchor;
        const settings = { id, home, endpoints: [...endpoints], prefixes: [...prefixes], retire: retiring };
        await declareAnchor(policy, settings);
      }
    }
    await note('said', digestOf(said));
    await changed();
    return policy;
  }

  /** Nodes that look for changes find one. */
  const changed = () => connection.plain((redis) => redis.incr(poolRevisionKey()));

  async function viewOf(name: string): Promise<PoolView> {
    const policy = await policyOf(name);
    if (policy === null) throw unknownPool(name);
    return view(policy);
  }

  return {
    async pools() {
      const policies = await Promise.all((await names()).map(policyOf));
      return Promise.all(policies.flatMap((policy) => (policy === null ? [] : [view(policy)])));
    },

    async roster(known) {
      const revision = Number(await connection.plain((redis) => redis.get(poolRevisionKey())));
      if (revision === known) return null;
      const policies = (await Promise.all((await names()).map(policyOf))).flatMap((policy) => policy ?? []);
      const ids = await Promise.all(policies.map(({ name }) => anchorIds(name)));
      const found = await Promise.all(ids.flat().map((id) => anchors.anchor(id)));
      return { revision, policies, anchors: found.flatMap((anchor) => anchor ?? []) };
    },

    async declareFile(pools) {
      for (const pool of pools) await apply(pool, 'file');
    },

    async pool(name) {
      const policy = await policyOf(name);
      return policy === null ? null : view(policy);
    },

    anchorView,

    async declarePool(pool, source) {
      return view(await apply(pool, source));
    },

    async retirePool(name) {
      const policy = await policyOf(name);
      if (policy === null) throw unknownPool(name);
      await writePolicy({ ...policy, retire: true });
      await changed();
      for (const id of await anchorIds(name)) {
        if ((await anchors.anchor(id))?.pool === name) await this.retireAnchor(id);
      }
      return viewOf(name);
    },

    async retireAnchor(id) {
      const anchor = await anchors.anchor(id);
      if (anchor === null) throw unknownAnchor(id);
      const { draining: _, capacity: __, ...declaration } = anchor;
      await anchors.declareAnchor({ ...declaration, retiring: true });
      await connection.plain((redis) => redis.zrem(poolKey(anchor.pool), id));
      await changed();
      const retired = await anchorView(id);
      if (retired === null) throw unknownAnchor(id);
      return retired;
    },

    async finishDraining(id) {
      const anchor = await anchors.anchor(id);
      if (anchor === null || (anchor.draining.length === 0 && !anchor.retiring)) return;
      const left = await anchors.finishDraining(anchor);
      if (left?.draining.length === anchor.draining.length) return;
      const prefixes = left === null ? [] : [...deliveredPrefixes(left), ...left.endpoints.map(hostPrefix)];
      await takeSpace(connection, id, prefixes);
      const { pool } = anchor;
      if (left === null) {
        await connection.plain((redis) => redis.hdel(poolPolicyKey(pool), `anchor:${id}`));
        if ((await policyOf(pool))?.retire === true && (await anchorIds(pool)).length === 0) {
          await connection.plain((redis) => redis.srem(poolsKey(), pool));
          await connection.plain((redis) => redis.del(poolPolicyKey(pool)));
        }
      }
      await changed();
    },
  };
}

/** What the anchors of a pool share, said of each. */
export function declarationOf(pool: PoolPolicy, anchor: AnchorSettings): AnchorDeclaration {
  const { id, home, endpoints, prefixes } = anchor;
  const { max, min = max } = pool.leaseMs;
  return {
    ...{ id, home, endpoints, prefixes },
    pool: pool.name,
    sharing: pool.sharing,
    coolingMs: pool.coolingMs,
    longestLeaseMs: max,
    shortestLeaseMs: min,
    retiring: pool.retire === true || anchor.retire === true,
    ...(pool.sharing === 'whole'
      ? {}
      : {
          portBlock: pool.portBlock,
          spiBlock: pool.spiBlock,
          spiCoolingMs: pool.spiCoolingMs ?? Math.max(SPI_COOLING_MS, pool.coolingMs),
        }),
  };
}

function digestOf(value: unknown): string {
  return createHash('sha256').update(JSON.stringify(value)).digest('hex').slice(0, 32);
}

function unknownPool(name: string): MooringError {
  return new MooringError(
    'ERR_MOORING_UNKNOWN_POOL',
    `pool ${name} is not declared; take a name from the list of pools`,
    { rsip: 308, data: { pool: name } },
  );
}

function unknownAnchor(id: string): MooringError {
  return new MooringError(
    'ERR_MOORING_UNKNOWN_ANCHOR',
    `anchor ${id} is not declared; take an id from the list of pools`,
    { data: { anchor: id } },
  );
}
