import { MooringError } from '../protocol/errors.ts';
import { askAnchor } from './asking.ts';
import { type Connection, isRefused } from './connection.ts';
import { poolPolicyKey, tenantKeys } from './keys.ts';
import { hex128 } from './leases.ts';
import { anchorsOf } from './pool-members.ts';

/** Field of a pool's policy: another value each time that the pool begins to limit its tenants. */
const LIMITED_SINCE = 'limitedSince';
/** Rounds of calling in that one draw makes at most, of 16 anchors each (commands/deal.lua). */
const ROUNDS = 4;
/** Anchors asked at once. */
const ASKED_AT_ONCE = 64;

/** Whom a draw is for. */
export interface TenantPlace {
  readonly tenant: string;
  readonly pool: string;
  readonly anchor: string;
}

/** An anchor's word that what it may grant to a tenant is used up. */
export interface Demand {
  readonly used: number;
  /** Of this word. */
  readonly number: string;
  /** Leases of the tenant in the pool. */
  readonly limit: number;
}

/**
 * What a tenant may hold in a pool, dealt out to its anchors: an anchor counts by itself and asks for more when that is used up. A
 * pool without limit knows nothing of it.
 */
export interface TenantAllowances {
  /** A limit holds from now on; every anchor has been told of it. */
  beginLimit(pool: string): Promise<void>;
  /**
   * Has more dealt to an anchor that demands it. True: ask it again. False: the tenant holds as many as it may. Throws
   * ERR_MOORING_TENANT_QUOTA, temporary, when not all anchors could be asked yet whether they need what was dealt to them.
   */
  draw(place: TenantPlace, demand: Demand): Promise<boolean>;
}

export function tenantAllowances(connection: Connection): TenantAllowances {
  const since = async (pool: string) =>
    (await connection.plain((redis) => redis.hget(poolPolicyKey(pool), LIMITED_SINCE))) ?? '';

  async function called(anchor: string, { tenant, pool }: TenantPlace): Promise<(string | number)[]> {
    const [used, number] = (await askAnchor(connection, 'call_in', anchor, [pool, tenant])) as [
      number,
      string,
    ];
    return [anchor, used, number];
  }

  const takeBack = (
    { tenant, pool }: TenantPlace,
    history: string,
    words: (string | number)[][],
    areAll = 0,
  ) => connection.run('take_back', tenantKeys(tenant, pool), [history, areAll, ...words.flat()]);

  /** Asks every anchor of the pool; rejects, temporarily, while one cannot say. */
  async function askAll(place: TenantPlace, history: string): Promise<void> {
    const anchors = await anchorsOf(connection, place.pool);
    for (let at = 0; at === 0 || at < anchors.length; at += ASKED_AT_ONCE) {
      const some = anchors.slice(at, at + ASKED_AT_ONCE);
      const words = await Promise.all(some.map((anchor) => called(anchor, place)));
      const isLast = at + ASKED_AT_ONCE >= anchors.length;
      // Another server that answers by now has them asked again.
      if (isRefused(await takeBack(place, history, words, isLast ? 1 : 0))) return;
    }
  }

  /** Whether some anchor could not say. */
  async function askSome(place: TenantPlace, history: string, anchors: readonly string[]): Promise<boolean> {
    const words = await Promise.allSettled(anchors.map((anchor) => called(anchor, place)));
    const said = words.flatMap((word) => (word.status === 'fulfilled' ? [word.value] : []));
    await takeBack(place, history, said);
    return said.length < words.length;
  }

  async function drawn(place: TenantPlace, { used, number, limit }: Demand): Promise<boolean> {
    const { tenant, pool, anchor } = place;
    const args = [await since(pool), limit, anchor, used, number];
    let isUnsaid = false;
    for (let round = 0; round <= ROUNDS; round += 1) {
      const answer = await connection.run('deal', tenantKeys(tenant, pool), args);
      const [history, dealt, ...others] = answer as [string, number?, ...string[]];
      if (dealt === undefined) {
        await wholeness(place, history);
        // The anchor has another word since.
        return true;
      }
      if (dealt > used) {
        await askAnchor(connection, 'allow', anchor, [tenant, dealt, number]);
        return true;
      }
      if (others.length === 0) {
        if (isUnsaid) break;
        // Nothing of the tenant's: nothing is kept of it.
        if (used === 0) await called(anchor, place);
        return false;
      }
      isUnsaid = (await askSome(place, history, others)) || isUnsaid;
    }
    throw tenantQuotaError(place, limit, true);
  }

  const askingAll = new Map<string, Promise<void>>();
  const wholeness = (place: TenantPlace, history: string) =>
    shared(askingAll, `${place.tenant} ${place.pool}`, () => askAll(place, history));
  /** Requests of one tenant at one anchor share what is drawn for them. */
  const drawing = new Map<string, Promise<boolean>>();

  return {
    async beginLimit(pool) {
      const token = hex128(connection.random);
      await connection.plain((redis) => redis.hset(poolPolicyKey(pool), LIMITED_SINCE, token));
    },

    draw(place, demand) {
      const name = [place.tenant, place.pool, place.anchor].join(' ');
      return shared(drawing, name, () => drawn(place, demand));
    },
  };
}

/** What is under way by that name, or begun now. */
function shared<T>(underWay: Map<string, Promise<T>>, name: string, begin: () => Promise<T>): Promise<T> {
  const known = underWay.get(name);
  if (known !== undefined) return known;
  const begun = begin().finally(() => underWay.delete(name));
  underWay.set(name, begun);
  return begun;
}

/** `temporary`: what other anchors do not need was not found in time. */
export function tenantQuotaError(
  { tenant, pool }: Omit<TenantPlace, 'anchor'>,
  limit: number,
  temporary = false,
): MooringError {
  const text = temporary
    ? `what tenant ${tenant} holds of the pool (${limit} leases at most) is being counted; try again`
    : `tenant ${tenant} holds as many leases of the pool as it may (${limit}); free one, or have the operator raise maxLeasesPerTenant`;
  return new MooringError('ERR_MOORING_TENANT_QUOTA', `pool ${pool}: ${text}`, {
    ...{ rsip: 304, data: { tenant, pool, limit } },
    ...(temporary ? { temporary, retryAfterMs: 1000 } : {}),
  });
}
