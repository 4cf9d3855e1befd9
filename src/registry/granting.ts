import { parseAddress } from '../protocol/address.ts';
import { MooringError } from '../protocol/errors.ts';
import type { Wished } from '../protocol/signalling.ts';
import { type Connection, isRefused } from './connection.ts';
import type { DeviceIndex } from './device-index.ts';
import { indexServers } from './index-servers.ts';
import { anchorKeys, deviceKeys, poolKey } from './keys.ts';
import { hex128, isFull, noteFree } from './leases.ts';
import { leaseFrom, packed, remoteText, sessionFrom, unpacked } from './records.ts';
import { type Refusal, refusalError } from './refusals.ts';
import { anchorOf, type Granted, type GrantRequest, type Registry } from './registry.ts';
import { attemptOf, markOf, newAttempt } from './request-mark.ts';
import { anchorWith } from './space.ts';
import { type Demand, type TenantAllowances, tenantQuotaError } from './tenant-allowances.ts';

/** Anchors that one request asks at most. */
const PROBES = 16;

interface Intent {
  /** Of the lease that the attempt may become. */
  readonly leaseId: string;
  readonly bindId: number;
  /** By which it was decided: keys.ts, `indexName`. */
  readonly index: string;
  /** False: the attempt was granted, or never will be. */
  readonly begins: boolean;
}

/** Of what was asked for by name: another anchor may have it. The first that any anchor says is the reason. */
const WISH_REFUSALS = [
  'ADDRESS_INUSE',
  'PORTS_INUSE',
  'SPIS_INUSE',
  'ADDRESS_UNALLOWED',
  'PORTS_UNALLOWED',
  'SPIS_UNAVAILABLE',
] as const;

/** Draws for one request at one anchor at most: other requests may use up what each brings. */
const MOST_DRAWS = 64;

/** Refusals after which another anchor may do. */
const ELSEWHERE: ReadonlySet<Refusal> = new Set<Refusal>([
  'NO_OWNER',
  'EXHAUSTED',
  'WITHDRAWN',
  'INDEX_BEHIND',
  'KIND_NOT_OFFERED',
  'REMOTE_FAMILY',
  ...WISH_REFUSALS,
  'UNDECLARED',
]);

/** Where a request is to be tried first. */
interface Candidates {
  /** In the order in which they are asked, after the device's former one where that is allowed. */
  readonly anchors: readonly string[];
  readonly formerFirst: boolean;
  /** These are all that the pool has. */
  readonly all: boolean;
}

/**
 * A device's way to a lease: intent in its own slot, grant in the anchor's, note in its own. The intent names
 * the anchor and a random attempt; anchor, request and attempt are the lease's id, and the anchor remembers every answer to it. So a
 * request is answered by at most one lease, whatever is lost, doubled or late on the way; also what the device's slot
 * itself loses in a fail-over, for then the anchors of the pool are asked before anything is intended anew.
 */
export function grantCommands(
  connection: Connection,
  { deviceLeases, makeWhole }: DeviceIndex,
  allowances: Pick<TenantAllowances, 'draw'>,
): Pick<Registry, 'grant'> {
  const servers = indexServers(connection);

  /** `failed`: the attempt that this one follows. */
  async function tryIntent(
    request: GrantRequest,
    anchor: string,
    { failed = '', formerFirst = false } = {},
  ): Promise<Intent | Refusal> {
    const { device, requestId, pool, quota } = request;
    const mark = markOf(device, requestId);
    const args = [mark, pool, anchor, formerFirst ? 1 : 0, newAttempt(connection.random), quota, failed];
    for (let doubted = false; ; doubted = true) {
      const answer = await connection.run('intend', deviceKeys(device), [...args, servers.trusted()]);
      if (isRefused(answer)) return answer.refused;
      const [leaseId, bindId, index, begins] = answer as [string, number, string, number];
      if (leaseId !== '') return { leaseId, bindId, index, begins: begins === 1 };
      // Another fail-over since.
      if (doubted) throw refusalError('INDEX_BEHIND', `device ${device.id}`);
      if (!(await servers.trusts(index))) await makeWhole(device, pool, index);
    }
  }

  /** The intent of a request; a quota that looks used up is counted again on the anchors themselves. */
  async function intend(...of: Parameters<typeof tryIntent>): Promise<Intent> {
    const [request] = of;
    let intent = await tryIntent(...of);
    if (intent === 'QUOTA') {
      await deviceLeases(request.device);
      intent = await tryIntent(...of);
    }
    if (typeof intent !== 'string') return intent;
    if (intent === 'UNDECLARED') throw unknownPool(request.pool);
    throw refusalError(intent, `pool ${request.pool}`, { data: { quota: request.quota } });
  }

  /** One word of the anchor. */
  async function askOnce(request: GrantRequest, intent: Intent): Promise<Granted | Refusal | Demand> {
    const { device, pool } = request;
    const anchor = anchorOf(intent.leaseId);
    const answer = await connection.run('grant', anchorKeys(anchor), [
      intent.index,
      intent.leaseId,
      device.tenant,
      device.id,
      request.thumbprint,
      request.kind,
      request.leaseMs,
      intent.bindId,
      packed(hex128(connection.random)),
      packed(hex128(connection.random)),
      anchor,
      pool,
      remoteText(request.remote),
      ...wishArguments(request.local),
      intent.begins ? 1 : 0,
    ]);
    if (isRefused(answer)) return answer.refused;
    if ((answer as unknown[])[1] === '') {
      const [, , used, number, limit] = answer as [number, '', number, string, number];
      return { used, number, limit };
    }
    const [nowMs, lease, session, replaced, free] = answer as [number, string, string, string, number];
    const granted = { lease: leaseFrom(lease, nowMs), session: sessionFrom(session) };
    await connection.run('confirm', deviceKeys(device), [granted.lease.id, pool]);
    if (free < 64 || free % 64 === 0) await noteFree(connection, pool, anchor, free);
    return replaced === '' ? granted : { ...granted, replaced: unpacked(replaced) };
  }

  async function ask(request: GrantRequest, intent: Intent): Promise<Granted | Refusal> {
    const { device, pool } = request;
    const place = { tenant: device.tenant, pool, anchor: anchorOf(intent.leaseId) };
    for (let draws = 1; ; draws += 1) {
      const answer = await askOnce(request, intent);
      if (!isDemand(answer)) return answer;
      if (draws <= MOST_DRAWS && (await allowances.draw(place, answer))) continue;
      // So that no copy of it that is still under way begins what is refused now.
      const last = await askOnce(request, { ...intent, begins: false });
      if (typeof last === 'object' && !isDemand(last)) return last;
      await connection.run('abandon', deviceKeys(device), [intent.leaseId]);
      throw tenantQuotaError(place, answer.limit, draws > MOST_DRAWS);
    }
  }

  /** The pool's anchors by free count: a hint, so all that ask for it in a turn of the event loop share one reading. */
  const reading = new Map<string, Promise<string[]>>();
  function anchorsByFree(pool: string): Promise<string[]> {
    const shared = reading.get(pool);
    if (shared !== undefined) return shared;
    const begun = connection.plain((redis) => redis.zrevrange(poolKey(pool), 0, PROBES));
    reading.set(pool, begun);
    setImmediate(() => reading.delete(pool));
    return begun;
  }

  /**
   * An anchor has been asked by another index since. What it decided stands: this one knows of it by now, or asks the anchors
   * before it decides anything else.
   */
  async function afterDoubt(request: GrantRequest, { leaseId, index }: Intent): Promise<Intent> {
    const anchor = anchorOf(leaseId);
    const intent = await intend(request, anchor, { failed: attemptOf(leaseId) });
    if (intent.index !== index) return intent;
    await makeWhole(request.device, request.pool, index);
    return intend(request, anchor);
  }

  async function candidates(request: GrantRequest): Promise<Candidates> {
    const address = request.local?.address;
    const place = request.anchor ?? (address === undefined ? null : await anchorWith(connection, address));
    if (place !== null) return { anchors: [place], formerFirst: false, all: false };
    const byFree = await anchorsByFree(request.pool);
    return { anchors: byFree.slice(0, PROBES), formerFirst: true, all: byFree.length <= PROBES };
  }

  async function grant(request: GrantRequest): Promise<Granted> {
    const { anchors, formerFirst, all } = await candidates(request);
    let intent = await intend(request, anchors[0] ?? '', { formerFirst });
    const inTurn = formerFirst ? [...new Set([anchorOf(intent.leaseId), ...anchors])] : anchors;
    const refusals: Refusal[] = [];
    const asked = new Set<string>();
    for (;;) {
      const anchor = anchorOf(intent.leaseId);
      asked.add(anchor);
      const granted = await ask(request, intent);
      if (typeof granted !== 'string') return granted;
      if (!ELSEWHERE.has(granted)) throw refusalError(granted, `request ${request.requestId}`);
      refusals.push(granted);
      if (granted === 'EXHAUSTED') await noteFree(connection, request.pool, anchor, 0);
      if (refusals.length >= PROBES) break;
      if (granted === 'INDEX_BEHIND') {
        intent = await afterDoubt(request, intent);
        continue;
      }
      // A withdrawn attempt may well succeed at the same anchor, by a new attempt.
      if (granted === 'WITHDRAWN' && refusals.filter((one) => one === 'WITHDRAWN').length === 1) {
        asked.delete(anchor);
      }
      const next = inTurn.find((one) => !asked.has(one));
      if (next === undefined) break;
      intent = await intend(request, next, { failed: attemptOf(intent.leaseId) });
    }
    await connection.run('abandon', deviceKeys(request.device), [intent.leaseId]);
    throw noneError(request, refusals, all || (await isFull(connection, request.pool)));
  }

  return { grant };
}

function isDemand(answer: Granted | Refusal | Demand): answer is Demand {
  return typeof answer === 'object' && 'limit' in answer;
}

/** Address in hexadecimal, port and SPI of a wish, '' for what is left open. */
function wishArguments(wish: Wished | undefined): (string | number)[] {
  const octets = wish?.address === undefined ? [] : parseAddress(wish.address, 'local.address');
  return [Buffer.from(octets).toString('hex'), wish?.port ?? '', wish?.spi ?? ''];
}

function unknownPool(pool: string): MooringError {
  return new MooringError(
    'ERR_MOORING_UNKNOWN_POOL',
    `pool ${pool}: no anchor is declared for it; name a pool of the configuration`,
    { rsip: 308, data: { pool } },
  );
}

/** Exhausted only if the whole pool said so; else the reason may pass. */
function noneError(request: GrantRequest, refusals: readonly Refusal[], all: boolean): MooringError {
  const subject = `pool ${request.pool}`;
  for (const unfit of ['KIND_NOT_OFFERED', 'REMOTE_FAMILY'] as const) {
    if (refusals.every((one) => one === unfit)) return refusalError(unfit, subject);
  }
  const denied = WISH_REFUSALS.find((one) => refusals.includes(one));
  if (denied !== undefined) return refusalError(denied, subject);
  const exhausted = refusals.every((one) => one === 'EXHAUSTED' || one === 'KIND_NOT_OFFERED');
  if (exhausted && all) {
    return refusalError('EXHAUSTED', subject, {
      rsip: request.kind === 'rsa-ip' ? 308 : 309,
      temporary: false,
    });
  }
  return refusalError(refusals.includes('NO_OWNER') ? 'NO_OWNER' : 'EXHAUSTED', subject);
}
