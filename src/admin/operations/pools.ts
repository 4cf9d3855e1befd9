import { createHash } from 'node:crypto';
import Type, { type Static, type TSchema } from 'typebox';
import { parsePool } from '../../config/pools.ts';
import { Pool, type PoolSettings } from '../../config/schema.ts';
import { badInput, MooringError } from '../../protocol/errors.ts';
import type { PoolView } from '../../registry/pools.ts';
import { operation } from '../operation.ts';
import type { AdminParts } from '../parts.ts';
import { AnchorShown, shownAnchor } from './anchors.ts';
import { limited, Name, Next, nothing, pageOf, Revision } from './fields.ts';

const LIMIT = 100;

const Policy = Type.Omit(Pool, ['anchors'], { additionalProperties: false });
/** A pool as an operator sees it. */
export const PoolShown = Type.Object(
  {
    policy: Policy,
    retiring: Type.Boolean({ description: 'no grants; it goes with its last lease' }),
    anchors: Type.Array(AnchorShown),
    revision: Revision,
  },
  { additionalProperties: false },
);
export type PoolShown = Static<typeof PoolShown>;

const Summary = Type.Object(
  {
    name: Name,
    sharing: Pool.properties.sharing,
    retiring: Type.Boolean(),
    anchors: Type.Integer(),
    capacity: Type.Integer(),
    held: Type.Integer(),
    free: Type.Integer(),
    revision: Revision,
  },
  { additionalProperties: false },
);

function shown(view: PoolView): PoolShown {
  const anchors = [...view.anchors].sort((left, right) => (left.id < right.id ? -1 : 1)).map(shownAnchor);
  return {
    policy: view.policy as PoolShown['policy'],
    retiring: view.retiring,
    anchors,
    revision: revisionOf(view),
  };
}

function summary(view: PoolView): Static<typeof Summary> {
  const total = (what: 'capacity' | 'held' | 'free') => view.anchors.reduce((sum, one) => sum + one[what], 0);
  return {
    name: view.policy.name,
    sharing: view.policy.sharing,
    retiring: view.retiring,
    anchors: view.anchors.length,
    ...{ capacity: total('capacity'), held: total('held'), free: total('free') },
    revision: revisionOf(view),
  };
}

/** Names what an operator decides about a pool: leases that come and go, and owners that change, do not touch it. */
function revisionOf({ policy, retiring, anchors }: PoolView): string {
  const decided = anchors
    .map(({ id, home, endpoints, prefixes, retiring }) => ({ id, home, endpoints, prefixes, retiring }))
    .sort((left, right) => (left.id < right.id ? -1 : 1));
  const text = JSON.stringify([sorted(policy), retiring, decided]);
  return createHash('sha256').update(text).digest('base64url').slice(0, 16);
}

function sorted(value: unknown): unknown {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return value;
  const entries = Object.entries(value).sort(([left], [right]) => (left < right ? -1 : 1));
  return entries.map(([name, inner]) => [name, sorted(inner)]);
}

/** A schema as a request may leave it: what has a default need not be said. */
function asRequest<S extends TSchema>(schema: S): S {
  const copy = JSON.parse(JSON.stringify(schema)) as Bare;
  relax(copy);
  return copy as unknown as S;
}

interface Bare {
  required?: string[];
  properties?: Record<string, Bare>;
  items?: Bare;
  default?: unknown;
}

function relax(schema: Bare): void {
  const { properties = {}, items } = schema;
  if (schema.required !== undefined) {
    schema.required = schema.required.filter((name) => properties[name]?.default === undefined);
  }
  for (const property of Object.values(properties)) relax(property);
  if (items !== undefined) relax(items);
}

/** A pool as an operator says it: what has a default may be left out. */
export const PoolRequest = asRequest(Pool);

const params = Type.Object({ pool: Name }, { additionalProperties: false });

async function poolNamed({ registry }: AdminParts, name: string): Promise<PoolView> {
  const found = await registry.pool(name);
  if (found !== null) return found;
  throw new MooringError(
    'ERR_MOORING_UNKNOWN_POOL',
    `pool ${name}: there is none of this name; list pools to see what there is`,
    { data: { pool: name } },
  );
}

/**
 * Makes a change, one at a time and only of what the operator has seen: of two who read the same revision one changes
 * the pool and the other is told.
 */
function change(
  parts: AdminParts,
  name: string,
  ifMatch: string | undefined,
  make: () => Promise<PoolView>,
): Promise<PoolShown> {
  if (ifMatch === undefined) {
    throw new MooringError(
      'ERR_MOORING_REVISION_NEEDED',
      `pool ${name}: If-Match is missing; read the pool and send the revision that you have seen, or * for a new one`,
    );
  }
  return parts.registry.changing(name, async () => {
    const present = await parts.registry.pool(name);
    const revision = present === null ? 'none' : revisionOf(present);
    if (ifMatch !== '*' && ifMatch !== revision) {
      throw new MooringError(
        'ERR_MOORING_REVISION',
        `pool ${name}: its revision is ${revision}, not ${ifMatch.slice(0, 40)}; somebody changed it meanwhile: read it again`,
        { data: { revision } },
      );
    }
    return shown(await make());
  });
}

export const poolOperations = [
  operation({
    id: 'listPools',
    method: 'GET',
    path: '/v1/pools',
    summary: 'Pools, and how full they are',
    tag: 'pools',
    scope: 'mooring:read',
    params: nothing,
    query: Type.Object(
      { after: Type.Optional(Name), limit: limited(500, LIMIT) },
      { additionalProperties: false },
    ),
    answer: Type.Object({ pools: Type.Array(Summary), next: Next }, { additionalProperties: false }),
    async run({ query: { after, limit = LIMIT }, parts }) {
      const { page, next } = pageOf(await parts.registry.pools(), ({ policy }) => policy.name, after, limit);
      return { pools: page.map(summary), next };
    },
  }),
  operation({
    id: 'showPool',
    method: 'GET',
    path: '/v1/pools/{pool}',
    summary: 'One pool: its policy and its anchors',
    tag: 'pools',
    scope: 'mooring:read',
    params,
    query: nothing,
    answer: PoolShown,
    revised: true,
    run: async ({ params: { pool }, parts }) => shown(await poolNamed(parts, pool)),
  }),
  operation({
    id: 'declarePool',
    method: 'PUT',
    path: '/v1/pools/{pool}',
    summary: 'Make the pool as said: create it, change its policy, grow it, shrink it',
    tag: 'pools',
    scope: 'mooring:pools',
    params,
    query: nothing,
    body: PoolRequest,
    parseBody: (body): PoolSettings => parsePool(body, 'the pool'),
    answer: PoolShown,
    revised: true,
    conditional: true,
    async run({ params: { pool }, body, ifMatch, parts }) {
      if (body.name !== pool)
        throw badInput('name', body.name, `write ${pool}, as in the path, or use another path`);
      return change(parts, pool, ifMatch, () => parts.registry.declarePool(body, 'operator'));
    },
  }),
  operation({
    id: 'retirePool',
    method: 'DELETE',
    path: '/v1/pools/{pool}',
    summary: 'No more grants from it; it goes with its last lease',
    tag: 'pools',
    scope: 'mooring:pools',
    params,
    query: nothing,
    answer: PoolShown,
    revised: true,
    conditional: true,
    async run({ params: { pool }, ifMatch, parts }) {
      await poolNamed(parts, pool);
      return change(parts, pool, ifMatch, () => parts.registry.retirePool(pool));
    },
  }),
];
