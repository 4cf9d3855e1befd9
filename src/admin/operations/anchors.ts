import Type, { type Static } from 'typebox';
import { MooringError } from '../../protocol/errors.ts';
import type { AnchorView } from '../../registry/pools.ts';
import type { Anchor, Owner } from '../../registry/registry.ts';
import { operation } from '../operation.ts';
import type { AdminParts } from '../parts.ts';
import { Epoch, limited, Name, Next, nothing } from './fields.ts';

const LIMIT = 100;

const OwnerShown = Type.Union([
  Type.Object(
    {
      relay: Name,
      boot: Type.String(),
      epoch: Epoch,
      remainingMs: Type.Integer({ description: 'until the claim runs out; not above zero: it has' }),
      standby: Type.Union([Name, Type.Null()], {
        description: 'the relay that takes over when this one is lost',
      }),
    },
    { additionalProperties: false },
  ),
  Type.Null(),
]);

/** An anchor as an operator sees it. */
export const AnchorShown = Type.Object(
  {
    id: Name,
    pool: Name,
    home: Name,
    endpoints: Type.Array(Type.String(), { description: 'tunnel endpoint addresses' }),
    prefixes: Type.Array(Type.String(), { description: 'leasable now' }),
    draining: Type.Array(
      Type.Object({ prefix: Type.String(), remainingMs: Type.Integer() }, { additionalProperties: false }),
      { description: 'taken out; leases on it end after that time at the latest' },
    ),
    retiring: Type.Boolean({ description: 'no grants; it goes with its last lease' }),
    capacity: Type.Integer({ description: 'leases it can hold' }),
    held: Type.Integer({ description: 'leases it holds' }),
    free: Type.Integer({ description: 'leases a stranger could get now; the rest cools' }),
    owner: OwnerShown,
  },
  { additionalProperties: false },
);

export function shownAnchor(view: AnchorView): Static<typeof AnchorShown> {
  const { id, pool, home, endpoints, prefixes, draining, retiring, capacity, held, free, owner } = view;
  return {
    ...{ id, pool, home, retiring, capacity, held, free },
    endpoints: [...endpoints],
    prefixes: [...prefixes],
    draining: draining.map(({ prefix, remainingMs }) => ({ prefix, remainingMs: Math.round(remainingMs) })),
    owner: shownOwner(owner),
  };
}

function shownOwner(owner: Owner | null): Static<typeof OwnerShown> {
  if (owner === null) return null;
  const { relay, boot, epoch, remainingMs, standby } = owner;
  return { relay, boot, epoch: String(epoch), remainingMs, standby: standby?.id ?? null };
}

/** Anchors asked for at one time. */
const AT_ONCE = 64;

/** Every anchor as it is now, some at a time. */
export async function* allAnchors(
  { registry, knownAnchors }: AdminParts,
  fits: (anchor: Anchor) => boolean = () => true,
): AsyncGenerator<AnchorView> {
  const ids = (await knownAnchors()).filter(fits).map(({ id }) => id);
  for (let at = 0; at < ids.length; at += AT_ONCE) {
    const views = await Promise.all(ids.slice(at, at + AT_ONCE).map((id) => registry.anchorView(id)));
    for (const view of views) if (view !== null) yield view;
  }
}

async function anchorNamed({ registry }: AdminParts, id: string): Promise<AnchorView> {
  const found = await registry.anchorView(id);
  if (found !== null) return found;
  throw new MooringError(
    'ERR_MOORING_UNKNOWN_ANCHOR',
    `anchor ${id}: there is none of this id; list anchors to see what there is`,
    { data: { anchor: id } },
  );
}

/** Whether the relay owns it, and its claim has not run out. */
export function isOwner(relay: string, { owner }: AnchorView): boolean {
  return owner?.relay === relay && owner.remainingMs > 0;
}

const params = Type.Object({ anchor: Name }, { additionalProperties: false });
const Moved = Type.Object(
  { anchor: Name, to: Name, epoch: Epoch, tookMs: Type.Number() },
  { additionalProperties: false },
);

/** Has the owner hand the anchor over to `to`; done already: says so. */
export async function handOver(parts: AdminParts, anchor: string, to: string): Promise<Static<typeof Moved>> {
  const owner = await parts.registry.owner(anchor);
  if (owner === null || owner.remainingMs <= 0) {
    throw new MooringError(
      'ERR_MOORING_NO_OWNER',
      `anchor ${anchor}: no relay owns it now, so none can hand it over; have relay ${to} claim it`,
      { data: { anchor } },
    );
  }
  if (owner.relay === to) return { anchor, to, epoch: String(owner.epoch), tookMs: 0 };
  const plane = await parts.planeFor(owner.relay);
  return { anchor, to, ...(await plane.handOver({ anchor, to })) };
}

export const anchorOperations = [
  operation({
    id: 'listAnchors',
    method: 'GET',
    path: '/v1/anchors',
    summary: 'Anchors: what they serve, how full they are, who owns them',
    tag: 'anchors',
    scope: 'mooring:read',
    params: nothing,
    query: Type.Object(
      {
        pool: Type.Optional(Name),
        relay: Type.Optional({ ...Name, description: 'only those that it owns' }),
        after: Type.Optional(Name),
        limit: limited(500, LIMIT),
      },
      { additionalProperties: false },
    ),
    answer: Type.Object({ anchors: Type.Array(AnchorShown), next: Next }, { additionalProperties: false }),
    async run({ query: { pool, relay, after, limit = LIMIT }, parts }) {
      const page: AnchorView[] = [];
      const fits = (anchor: Anchor) =>
        (pool === undefined || anchor.pool === pool) && (after === undefined || anchor.id > after);
      for await (const anchor of allAnchors(parts, fits)) {
        if (relay !== undefined && !isOwner(relay, anchor)) continue;
        if (page.length === limit) return { anchors: page.map(shownAnchor), next: page.at(-1)?.id ?? null };
        page.push(anchor);
      }
      return { anchors: page.map(shownAnchor), next: null };
    },
  }),
  operation({
    id: 'showAnchor',
    method: 'GET',
    path: '/v1/anchors/{anchor}',
    summary: 'One anchor',
    tag: 'anchors',
    scope: 'mooring:read',
    params,
    query: nothing,
    answer: AnchorShown,
    run: async ({ params: { anchor }, parts }) => shownAnchor(await anchorNamed(parts, anchor)),
  }),
  operation({
    id: 'retireAnchor',
    method: 'DELETE',
    path: '/v1/anchors/{anchor}',
    summary: 'No more grants on it; it goes with its last lease',
    tag: 'anchors',
    scope: 'mooring:pools',
    params,
    query: nothing,
    answer: AnchorShown,
    async run({ params: { anchor }, parts }) {
      const { pool } = await anchorNamed(parts, anchor);
      // Not while a declaration is under way that would bring it back.
      return parts.registry.changing(pool, async () =>
        shownAnchor(await parts.registry.retireAnchor(anchor)),
      );
    },
  }),
  operation({
    id: 'handOverAnchor',
    method: 'POST',
    path: '/v1/anchors/{anchor}/handover',
    summary: 'Its owner hands it over to another relay of its site; nobody notices',
    tag: 'anchors',
    scope: 'mooring:relays',
    params,
    query: nothing,
    body: Type.Object({ to: Name }, { additionalProperties: false }),
    answer: Moved,
    async run({ params: { anchor }, body: { to }, parts }) {
      await anchorNamed(parts, anchor);
      return handOver(parts, anchor, to);
    },
  }),
  operation({
    id: 'claimAnchor',
    method: 'POST',
    path: '/v1/anchors/{anchor}/claim',
    summary:
      'A relay claims it, because its owner is gone for good; refused while the claim of the owner lasts',
    tag: 'anchors',
    scope: 'mooring:relays',
    params,
    query: nothing,
    body: Type.Object({ relay: Name }, { additionalProperties: false }),
    answer: Type.Object({ anchor: Name, relay: Name, epoch: Epoch }, { additionalProperties: false }),
    async run({ params: { anchor }, body: { relay }, parts }) {
      await anchorNamed(parts, anchor);
      const { epoch } = await (await parts.planeFor(relay)).claim({ anchor });
      return { anchor, relay, epoch };
    },
  }),
];
