import Type, { type Static } from 'typebox';
import { MooringError } from '../../protocol/errors.ts';
import type { AnchorView } from '../../registry/pools.ts';
import type { RelayAnnouncement } from '../../registry/registry.ts';
import { operation } from '../operation.ts';
import type { AdminParts } from '../parts.ts';
import { allAnchors, handOver, isOwner } from './anchors.ts';
import { Epoch, limited, Name, Next, nothing, pageOf } from './fields.ts';

const LIMIT = 100;
/** Anchors that one call drains: it answers within some seconds, and is repeated until nothing remains. */
const DRAINED_A_CALL = 16;

/** A relay as an operator sees it. */
export const RelayShown = Type.Object(
  {
    id: Name,
    boot: Type.String({ description: 'names this start of it' }),
    site: Type.String({ description: 'relays of one site can take anchors from each other' }),
    planeUrl: Type.String({ description: 'where other nodes reach it; empty: nowhere' }),
    anchors: Type.Integer({ description: 'that it owns' }),
    standbyOf: Type.Integer({ description: 'anchors that it takes over when their owner is lost' }),
    leases: Type.Integer({ description: 'that it carries' }),
  },
  { additionalProperties: false },
);

function shown(relay: RelayAnnouncement, anchors: readonly AnchorView[]): Static<typeof RelayShown> {
  const { id, boot, site, planeUrl } = relay;
  const owned = ownedBy(id, anchors);
  return {
    ...{ id, boot, site, planeUrl },
    anchors: owned.length,
    standbyOf: anchors.filter(({ owner }) => owner?.standby?.id === id).length,
    leases: owned.reduce((sum, { held }) => sum + held, 0),
  };
}

function ownedBy(relay: string, anchors: readonly AnchorView[]): readonly AnchorView[] {
  return anchors.filter((anchor) => isOwner(relay, anchor));
}

async function everyAnchor(parts: AdminParts): Promise<readonly AnchorView[]> {
  const all: AnchorView[] = [];
  for await (const anchor of allAnchors(parts)) all.push(anchor);
  return all;
}

async function relayNamed({ registry }: AdminParts, id: string): Promise<RelayAnnouncement> {
  const found = await registry.relay(id);
  if (found !== null) return found;
  throw new MooringError('ERR_MOORING_NO_RELAY', `relay ${id} is not running; list relays to see which are`, {
    data: { relay: id },
  });
}

const params = Type.Object({ relay: Name }, { additionalProperties: false });

export const relayOperations = [
  operation({
    id: 'listRelays',
    method: 'GET',
    path: '/v1/relays',
    summary: 'Relays that run now',
    tag: 'relays',
    scope: 'mooring:read',
    params: nothing,
    query: Type.Object(
      { after: Type.Optional(Name), limit: limited(500, LIMIT) },
      { additionalProperties: false },
    ),
    answer: Type.Object({ relays: Type.Array(RelayShown), next: Next }, { additionalProperties: false }),
    async run({ query: { after, limit = LIMIT }, parts }) {
      const [relays, anchors] = await Promise.all([parts.registry.relays(), everyAnchor(parts)]);
      const { page, next } = pageOf(relays, ({ id }) => id, after, limit);
      return { relays: page.map((relay) => shown(relay, anchors)), next };
    },
  }),
  operation({
    id: 'showRelay',
    method: 'GET',
    path: '/v1/relays/{relay}',
    summary: 'One relay, and the anchors that it owns',
    tag: 'relays',
    scope: 'mooring:read',
    params,
    query: nothing,
    answer: Type.Object({ relay: RelayShown, owns: Type.Array(Name) }, { additionalProperties: false }),
    async run({ params, parts }) {
      const relay = await relayNamed(parts, params.relay);
      const anchors = await everyAnchor(parts);
      return { relay: shown(relay, anchors), owns: ownedBy(relay.id, anchors).map(({ id }) => id) };
    },
  }),
  operation({
    id: 'drainRelay',
    method: 'POST',
    path: '/v1/relays/{relay}/drain',
    summary: `Hand over up to ${DRAINED_A_CALL} of its anchors, each to its standby or to the relay of the site that owns fewest; repeat until nothing remains`,
    tag: 'relays',
    scope: 'mooring:relays',
    params,
    query: nothing,
    answer: Type.Object(
      {
        relay: Name,
        moved: Type.Array(
          Type.Object({ anchor: Name, to: Name, epoch: Epoch }, { additionalProperties: false }),
        ),
        failed: Type.Array(
          Type.Object(
            { anchor: Name, code: Type.String(), detail: Type.String() },
            { additionalProperties: false },
          ),
        ),
        remaining: Type.Integer({ description: 'anchors that it still owns' }),
      },
      { additionalProperties: false },
    ),
    async run({ params, parts }) {
      const relay = await relayNamed(parts, params.relay);
      const relays = await parts.registry.relays();
      const targets = relays.filter(
        ({ id, site, planeUrl }) => id !== relay.id && site === relay.site && planeUrl !== '',
      );
      const anchors = await everyAnchor(parts);
      const owned = ownedBy(relay.id, anchors);
      if (owned.length > 0 && targets.length === 0) {
        throw new MooringError(
          'ERR_MOORING_NO_SUCCESSOR',
          `relay ${relay.id}: no other relay of its site runs that could take its ${owned.length} anchors; start one`,
          { data: { relay: relay.id } },
        );
      }
      const load = new Map(targets.map(({ id }) => [id, ownedBy(id, anchors).length]));
      const moved: { anchor: string; to: string; epoch: string }[] = [];
      const failed: { anchor: string; code: string; detail: string }[] = [];
      // One after the other: each stops for some milliseconds, and no two at once.
      for (const anchor of owned.slice(0, DRAINED_A_CALL)) {
        const to = successorOf(anchor, load);
        try {
          const { epoch } = await handOver(parts, anchor.id, to);
          moved.push({ anchor: anchor.id, to, epoch });
          load.set(to, (load.get(to) ?? 0) + 1);
        } catch (error) {
          const known = error instanceof MooringError ? error : null;
          if (known === null) parts.log.error({ err: error, anchor: anchor.id }, 'drain failed');
          failed.push({
            anchor: anchor.id,
            code: known?.code ?? 'ERR_MOORING_INTERNAL',
            detail: known?.message ?? 'the hand-over failed here; the log of this node says why',
          });
        }
      }
      return { relay: relay.id, moved, failed, remaining: owned.length - moved.length };
    },
  }),
];

/** Its standby, which knows its state already; else whoever owns fewest. */
function successorOf({ owner }: AnchorView, load: ReadonlyMap<string, number>): string {
  const standby = owner?.standby?.id;
  if (standby !== undefined && load.has(standby)) return standby;
  const [first] = [...load].sort(([a, left], [b, right]) => left - right || (a < b ? -1 : 1));
  return first?.[0] ?? '';
}
