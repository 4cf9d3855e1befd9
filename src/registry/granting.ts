import { parseAddress } from '../protocol/address.ts';
import { MooringError } from '../protocol/errors.ts';
import type { Wished } from '../protocol/signalling.ts';
import { type Connection, isRefused } from './connection.ts';
import type { DeviceIndex } from './device-index.ts';
import { indexServers } from './index-servers.ts';
import { anchorKeys, deviceKeys, deviceNotes, poolKey } from './keys.ts';
import { hex128, isFull, noteFree } from './leases.ts';
import { leaseFrom, packed, remoteText, sessionFrom, unpacked } from './records.ts';
import { type Refusal, refusalError } from './refusals.ts';
import type { Granted, GrantRequest, Registry } from './registry.ts';
import { leaseIdOf, markOf, newAttempt } from './request-mark.ts';
import { anchorWith } from './space.ts';

/** Anchors that one request asks at most. */
const PROBES = 16;

interface Intent {
  readonly anchor: string;
  readonly attempt: string;
  readonly bindId: number;
  /** On which it was decided. */
  readonly server: string;
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

/**
 * A device's way to a lease: intent in its own slot, grant in the anchor's, note in its own. The intent names
 * the anchor and a random attempt; request and attempt are the lease's id, and the anchor remembers every answer to it. So a
 * request is answered by at most one lease, whatever is lost, doubled or late on the way; also what the device's slot
 * itself loses in a fail-over, for then the anchors of the pool are asked before anything is intended anew.
 */
export function grantCommands(
  connection: Connection,
  { deviceLeases, makeWhole }: DeviceIndex,
): Pick<Registry, 'grant'> {
  const servers = indexServers(connection);

  /** Undefined: the quota is used up. */
  async function intend(
    request: GrantRequest,
    anchor: string,
    failedAttempt = '',
  ): Promise<Intent | undefined> {
    const { device, requestId, pool, quota } = request;
    const mark = markOf(device, requestId);
    const args = [requestId, mark, pool, anchor, newAttempt(connection.random), quota, failedAttempt];
    for (let doubted = false; ; doubted = true) {
      const answer = await connection.run('intend', deviceKeys(device), [...args, servers.trusted()]);
      if (isRefused(answer)) return undefined;
      const [json, server, begins] = answer as [string, string, number];
      if (json !== '') return { ...(JSON.parse(json) as Intent), server, begins: begins === 1 };
      // Another fail-over since.
      if (doubted) throw refusalError('INDEX_BEHIND', `device ${device.id}`);
      if (!(await servers.trusts(server))) await makeWhole(device, pool, server);
    }
  }

  /** The intent of a request; a quota that looks used up is counted again on the anchors themselves. */
  async function firstIntent(request: GrantRequest, anchor: string): Promise<Intent> {
    const intent = await intend(request, anchor);
    if (intent !== undefined) return intent;
    await deviceLeases(request.device);
    const recounted = await intend(request, anchor);
    if (recounted === undefined) {
      throw refusalError('QUOTA', `pool ${request.pool}`, { data: { quota: request.quota } });
    }
    return recounted;
  }

  async function ask(request: GrantRequest, intent: Intent): Promise<Granted | Refusal> {
    const { device, pool, requestId } = request;
    const leaseId = leaseIdOf(intent.anchor, markOf(device, requestId), intent.attempt);
    const answer = await connection.run('grant', anchorKeys(intent.anchor), [
      intent.server,
      leaseId,
      device.tenant,
      device.id,
      request.thumbprint,
      request.kind,
      request.leaseMs,
      intent.bindId,
      packed(hex128(connection.random)),
      packed(hex128(connection.random)),
      intent.anchor,
      pool,
      remoteText(request.remote),
      ...wishArguments(request.local),
      intent.begins ? 1 : 0,
    ]);
    if (isRefused(answer)) return answer.refused;
    const [nowMs, lease, session, replaced, free] = answer as [number, string, string, string, number];
    const granted = { lease: leaseFrom(lease, nowMs), session: sessionFrom(session) };
    const args = [requestId, intent.attempt, granted.lease.id, pool, intent.anchor];
    await connection.run('confirm', deviceKeys(device), args);
    if (free < 64 || free % 64 === 0) await noteFree(connection, pool, intent.anchor, free);
    return replaced === '' ? granted : { ...granted, replaced: unpacked(replaced) };
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
   * An anchor has been asked by an index on another server since. What it decided stands; this server knows of it, or is the
   * newer one.
   */
  async function afterDoubt(request: GrantRequest, { anchor, server }: Intent): Promise<Intent> {
    const intent = await firstIntent(request, anchor);
    if (intent.server === server) await makeWhole(request.device, request.pool, server);
    return intent;
  }

  /** The device's former anchor, then the others by free count. */
  async function candidates(request: GrantRequest): Promise<{ anchors: string[]; all: boolean }> {
    if (request.anchor !== undefined) return { anchors: [request.anchor], all: false };
    const address = request.local?.address;
    const place = address === undefined ? null : await anchorWith(connection, address);
    if (place !== null) return { anchors: [place], all: false };
    const { device, pool } = request;
    const [former, byFree] = await Promise.all([
      connection.plain((redis) => redis.hget(deviceNotes(device), `last:${pool}`)),
      anchorsByFree(pool),
    ]);
    const anchors = [...new Set(former === null ? byFree : [former, ...byFree])];
    return { anchors: anchors.slice(0, PROBES), all: byFree.length <= PROBES };
  }

  async function grant(request: GrantRequest): Promise<Granted> {
    const { anchors, all } = await candidates(request);
    if (anchors.length === 0) {
      throw new MooringError(
        'ERR_MOORING_UNKNOWN_POOL',
        `pool ${request.pool}: no anchor is declared for it; name a pool of the configuration`,
        { rsip: 308, data: { pool: request.pool } },
      );
    }
    let intent = await firstIntent(request, anchors[0]!);
    const refusals: Refusal[] = [];
    const asked = new Set<string>();
    for (;;) {
      asked.add(intent.anchor);
      const granted = await ask(request, intent);
      if (typeof granted !== 'string') return granted;
      if (!ELSEWHERE.has(granted)) throw refusalError(granted, `request ${request.requestId}`);
      refusals.push(granted);
      if (granted === 'EXHAUSTED') await noteFree(connection, request.pool, intent.anchor, 0);
      if (refusals.length >= PROBES) break;
      if (granted === 'INDEX_BEHIND') {
        intent = await afterDoubt(request, intent);
        continue;
      }
      // A withdrawn attempt may well succeed at the same anchor, by a new attempt.
      if (granted === 'WITHDRAWN' && refusals.filter((one) => one === 'WITHDRAWN').length === 1) {
        asked.delete(intent.anchor);
      }
      const next = anchors.find((anchor) => !asked.has(anchor));
      if (next === undefined) break;
      const moved = await intend(request, next, intent.attempt);
      if (moved === undefined) throw refusalError('QUOTA', `pool ${request.pool}`);
      intent = moved;
    }
    const abandoned = [request.requestId, intent.attempt];
    await connection.run('abandon', deviceKeys(request.device), abandoned);
    throw noneError(request, refusals, all || (await isFull(connection, request.pool)));
  }

  return { grant };
}

/** Address in hexadecimal, port and SPI of a wish, '' for what is left open. */
function wishArguments(wish: Wished | undefined): (string | number)[] {
  const octets = wish?.address === undefined ? [] : parseAddress(wish.address, 'local.address');
  return [Buffer.from(octets).toString('hex'), wish?.port ?? '', wish?.spi ?? ''];
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
