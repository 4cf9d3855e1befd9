import { createHash } from 'node:crypto';
import { isDeepStrictEqual } from 'node:util';
import type { AnchorSettings, PoolSettings } from '../config/schema.ts';
import { MooringError } from '../protocol/errors.ts';
import { type AnchorChange, anchorChanges, spaceWith } from './anchor-changes.ts';
import { askAnchor } from './asking.ts';
import type { Connection } from './connection.ts';
import type { Declaring } from './declaring.ts';
import { poolKey, poolPolicyKey, poolRevisionKey, poolsKey } from './keys.ts';
import { poolMembers } from './pool-members.ts';
import type { Anchor, Owner, Registry } from './registry.ts';
import type { TenantAllowances } from './tenant-allowances.ts';

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
  /** `declarePool` for each pool of a configuration file; rejects, having done the others, with what one was refused for. */
  declareFile(pools: readonly PoolSettings[]): Promise<void>;
  /**
   * Says again all that was declared when `seen` was read, to a registry that has forgotten it (it was emptied, or put back to
   * a backup), whoever had declared it: what `files` say counts as said before. Idempotent; rejects, having done the
   * rest, with what cannot be said, or not before its owner has reported (temporary).
   */
  restore(seen: Roster, files: readonly PoolSettings[]): Promise<void>;
  /** Makes a forgotten anchor known again as its owner knows it, so that nobody gets its addresses. */
  redeclare(anchor: Anchor): Promise<void>;
  /**
   * Notes again what pools should know of an anchor, its addresses above all, where a fail-over has lost that, or its owner has
   * brought back another plan than is declared: its owner's task, again and again.
   */
  enlist(anchor: string): Promise<void>;
  pool(name: string): Promise<PoolView | null>;
  /** How full an anchor is and who owns it. */
  anchorView(id: string): Promise<AnchorView | null>;
  /**
   * Makes the pool as said: new, or with another policy, grown or shrunk. Anchors that are not named stay as they are:
   * one goes by `retire: true` in its settings, as does a pool. Idempotent. Throws ERR_MOORING_OVERLAP where an address is
   * another anchor's, ERR_MOORING_ANCHOR_TAKEN where another pool has the anchor, ERR_MOORING_ANCHOR_IN_USE where leases would
   * lose their shape, ERR_MOORING_BAD_INPUT naming a field.
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
  allowances: Pick<TenantAllowances, 'beginLimit'>,
): Pools {
  const policyOf = async (name: string): Promise<PoolPolicy | null> => {
    const json = await connection.plain((redis) => redis.hget(poolPolicyKey(name), 'policy'));
    return json === null ? null : (JSON.parse(json) as PoolPolicy);
  };
  const members = poolMembers(connection, anchors, async (pool) => (await policyOf(pool))?.retire === true);
  const { names, anchorIds, changed } = members;
  const changes = anchorChanges(anchors, members);

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

  async function redeclare(anchor: Anchor): Promise<void> {
    await members.take(anchor.id, spaceWith(anchor));
    await anchors.declareAnchor(anchor);
    await members.add(anchor.pool, anchor.id);
    await changed();
  }

  async function writePolicy(policy: PoolPolicy): Promise<void> {
    await connection.plain((redis) => redis.sadd(poolsKey(), policy.name));
    await connection.plain((redis) =>
      redis.hset(poolPolicyKey(policy.name), 'policy', JSON.stringify(policy)),
    );
  }

  /** So that a file that says the same again says nothing. */
  async function noteSaid(pool: string, field: string, said: unknown): Promise<void> {
    await connection.plain((redis) => redis.hset(poolPolicyKey(pool), field, digestOf(said)));
  }

  async function apply({ anchors: wanted, ...said }: PoolSettings, source: PoolSource): Promise<PoolPolicy> {
    const present = await policyOf(said.name);
    const stands = await isRepeated(said.name, 'said', digestOf(said), source);
    const policy = (stands ? present : null) ?? said;
    // What its retirement has drained comes back with it, as it is said.
    const revives = present?.retire === true && policy.retire !== true;
    const news = new Map<string, AnchorSettings>();
    for (const anchor of wanted) {
      const isSaid = await isRepeated(said.name, `said:${anchor.id}`, digestOf(anchor), source);
      if (!isSaid || revives) news.set(anchor.id, anchor);
    }
    const isOther = !isDeepStrictEqual(present, policy);
    const following = isOther ? await followers(policy, news) : [];
    const wishes: AnchorChange[] = [];
    for (const anchor of [...news.values(), ...following]) wishes.push(await changes.foresee(policy, anchor));
    await changes.carryOut(wishes, async (id) => {
      await changed();
      const anchor = news.get(id);
      if (source === 'file' && anchor !== undefined) await noteSaid(said.name, `said:${id}`, anchor);
    });
    if (policy.maxLeasesPerTenant !== undefined && present?.maxLeasesPerTenant === undefined)
      await allowances.beginLimit(said.name);
    if (isOther) await writePolicy(policy);
    if (source === 'file' && !stands) await noteSaid(said.name, 'said', said);
    await changed();
    return policy;
  }

  /** Anchors of a pool that are not named: they follow its policy as they are. */
  async function followers(
    { name }: PoolPolicy,
    named: ReadonlyMap<string, unknown>,
  ): Promise<AnchorSettings[]> {
    const others = (await anchorIds(name)).filter((id) => !named.has(id));
    const found = await Promise.all(others.map((id) => anchors.anchor(id)));
    return found.flatMap((anchor) => {
      if (anchor === null || anchor.pool !== name) return [];
      const { id, home, endpoints, prefixes, retiring } = anchor;
      return [{ id, home, endpoints: [...endpoints], prefixes: [...prefixes], retire: retiring }];
    });
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
      const failures: unknown[] = [];
      for (const pool of pools) await apply(pool, 'file').catch((error: unknown) => failures.push(error));
      throwWorst(failures);
    },

    async restore(seen, files) {
      const failures: unknown[] = [];
      for (const policy of seen.policies) await writePolicy(policy);
      for (const { anchors: ofFile, ...said } of files) {
        await noteSaid(said.name, 'said', said);
        for (const anchor of ofFile) await noteSaid(said.name, `said:${anchor.id}`, anchor);
      }
      for (const anchor of seen.anchors) {
        await redeclare(anchor).catch((error: unknown) => failures.push(error));
      }
      await changed();
      throwWorst(failures);
    },

    redeclare,

    async enlist(id) {
      const settled = await anchors.settle(id);
      const known = settled ?? (await anchors.anchor(id));
      if (known === null || (settled === null && (await members.has(known.pool, id)))) return;
      // It may have gone meanwhile, and with it what was noted.
      const still = await anchors.anchor(id);
      if (still === null) return;
      await members.take(id, spaceWith(still));
      await members.add(still.pool, id);
      await changed();
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
      const retired = { ...policy, retire: true };
      await writePolicy(retired);
      await changed();
      for (const id of await anchorIds(name)) {
        const anchor = await anchors.anchor(id);
        if (anchor === null) await members.strike(name, id);
        else if (anchor.pool === name) await this.retireAnchor(id);
      }
      const left = await view(retired);
      await members.endIfEmpty(name);
      return left;
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
      if (left === null) await members.strike(anchor.pool, id);
      else await members.take(id, spaceWith(left));
      await changed();
    },
  };
}

/** The same for the same settings, in whatever order a file names them. */
function digestOf(value: unknown): string {
  return createHash('sha256').update(JSON.stringify(value, inOrder)).digest('hex').slice(0, 32);
}

function inOrder(_: string, value: unknown): unknown {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return value;
  return Object.fromEntries(Object.entries(value).sort(([one], [other]) => (one < other ? -1 : 1)));
}

/** What may pass is to be tried again, and then the others are seen again. */
function throwWorst(failures: readonly unknown[]): void {
  const passing = failures.find((error) => error instanceof MooringError && error.temporary);
  if (failures.length > 0) throw passing ?? failures[0];
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
