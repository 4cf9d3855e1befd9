import { parseAddress } from '../protocol/address.ts';
import { MooringError } from '../protocol/errors.ts';
import type { Device, Lease } from '../protocol/lease.ts';
import type { Wished } from '../protocol/signalling.ts';
import { askAnchor } from './asking.ts';
import { type Connection, isRefused } from './connection.ts';
import { anchorKeys, deviceKeys, deviceNotes, poolKey } from './keys.ts';
import { hex128, noteFree } from './leases.ts';
import { leaseFrom, packed, remoteText, sessionFrom, unpacked } from './records.ts';
import { type Refusal, refusalError } from './refusals.ts';
import { anchorOf, type Granted, type GrantRequest, type Registry } from './registry.ts';
import { anchorWith } from './space.ts';

/** Anchors that one request asks at most. */
const PROBES = 16;
/** Devices told at once. */
const REINDEX_BATCH = 64;
/** Lease ids forgotten a command. */
const FORGET_BATCH = 256;

interface Intent {
  readonly anchor: string;
  readonly attempt: string;
  readonly bindId: number;
  /** The lease that answered, or empty. */
  readonly lease: string;
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
  'KIND_NOT_OFFERED',
  'REMOTE_FAMILY',
  ...WISH_REFUSALS,
  'UNDECLARED',
]);

/**
 * A device's way to a lease: intent in its own slot, grant in the anchor's, note in its own. The intent names
 * the anchor and a random attempt; the anchor remembers every answer to an attempt. So a request is answered by
 * at most one lease, whatever is lost, doubled or late on the way.
 */
export function grantCommands(connection: Connection): Pick<Registry, 'grant' | 'deviceLeases'> & {
  /** Notes the leases of an anchor in their devices' indexes. */
  reindex(leases: readonly Lease[]): Promise<void>;
} {
  async function intend(
    request: GrantRequest,
    anchor: string,
    failedAttempt = '',
  ): Promise<Intent | undefined> {
    const { device, requestId, pool, quota } = request;
    const attempt = connection.random(8).toString('hex');
    const answer = await connection.run('intend', deviceKeys(device), [
      requestId,
      pool,
      anchor,
      attempt,
      quota,
      failedAttempt,
    ]);
    return isRefused(answer) ? undefined : (JSON.parse(answer as string) as Intent);
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
    const leaseId = `${intent.anchor}.${connection.random(16).toString('base64url')}`;
    const answer = await connection.run('grant', anchorKeys(intent.anchor), [
      `${requestId}:${intent.attempt}`,
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
      intent.lease,
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
      // A withdrawn attempt may well succeed at the same anchor, by a new attempt.
      if (granted === 'WITHDRAWN' && refusals.filter((one) => one === 'WITHDRAWN').length === 1) {
        asked.delete(intent.anchor);
      }
      const next = anchors.find((anchor) => !asked.has(anchor));
      if (next === undefined || refusals.length >= PROBES) break;
      const moved = await intend(request, next, intent.attempt);
      if (moved === undefined) throw refusalError('QUOTA', `pool ${request.pool}`);
      intent = moved;
    }
    const abandoned = [request.requestId, intent.attempt];
    await connection.run('abandon', deviceKeys(request.device), abandoned);
    throw noneError(request, refusals, all);
  }

  async function deviceLeases(device: Device, alsoAt?: string): Promise<readonly Lease[]> {
    const answer = await connection.run('held_by', deviceKeys(device), []);
    const [indexed, intended] = answer as unknown as [string[], string[]];
    const named = [...indexed.map(anchorOf), ...intended];
    const anchors = [...new Set(alsoAt === undefined ? named : [...named, alsoAt])];
    const held = (await Promise.all(anchors.map((anchor) => heldOn(device, anchor)))).flat();
    const ids = new Set(held.map((lease) => lease.id));
    for (const { id, pool, anchor } of held) {
      if (anchor === alsoAt && !indexed.includes(id))
        await connection.run('confirm', deviceKeys(device), ['', '', id, pool, anchor]);
    }
    const gone = indexed.filter((id) => !ids.has(id));
    for (let at = 0; at < gone.length; at += FORGET_BATCH) {
      await connection.run('forget', deviceKeys(device), gone.slice(at, at + FORGET_BATCH));
    }
    return held;
  }

  async function heldOn(device: Device, anchor: string): Promise<Lease[]> {
    const answer = await askAnchor(connection, 'held_on', anchor, [device.tenant, device.id]);
    const [nowMs, ...leases] = answer as [number, ...string[]];
    return leases.map((text) => leaseFrom(text, nowMs));
  }

  async function reindex(leases: readonly Lease[]): Promise<void> {
    const byDevice = new Map<string, Lease[]>();
    for (const lease of leases) {
      const name = `${lease.device.tenant}/${lease.device.id}`;
      byDevice.set(name, [...(byDevice.get(name) ?? []), lease]);
    }
    const all = [...byDevice.values()];
    for (let at = 0; at < all.length; at += REINDEX_BATCH) {
      const some = all.slice(at, at + REINDEX_BATCH).map((held) => {
        const { device, pool } = held[0]!;
        return connection.run('reindex', deviceKeys(device), [pool, ...held.map(({ id }) => id)]);
      });
      await Promise.all(some);
    }
  }

  return { grant, deviceLeases, reindex };
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
