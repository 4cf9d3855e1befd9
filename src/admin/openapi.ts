import type { TSchema } from 'typebox';
import { Block, Device, Lease } from '../protocol/lease.ts';
import type { Operation } from './operation.ts';
import { AnchorShown } from './operations/anchors.ts';
import { PoolRequest, PoolShown } from './operations/pools.ts';
import { RelayShown } from './operations/relays.ts';
import { OPERATIONS } from './operations.ts';
import { SCOPES } from './operator.ts';
import { PROBLEM_TITLES, Problem } from './problem.ts';

interface Properties {
  readonly properties?: Readonly<Record<string, TSchema>>;
  readonly required?: readonly string[];
}

/** What is described once and referred to. */
const NAMED: Readonly<Record<string, TSchema>> = {
  Lease,
  Device,
  Block,
  Anchor: AnchorShown,
  Pool: PoolShown,
  PoolRequest,
  Relay: RelayShown,
  Problem,
};

/** The OpenAPI 3.1 description of the admin API, from the schemas that it is served by. `docs/openapi.json` is it. */
export function openApiDocument(): object {
  const paths: Record<string, Record<string, object>> = {};
  for (const one of OPERATIONS) {
    paths[one.path] ??= {};
    (paths[one.path] as Record<string, object>)[one.method.toLowerCase()] = described(one);
  }
  return withReferences({
    openapi: '3.1.0',
    info: {
      title: 'Mooring admin API',
      version: '1',
      description:
        'Pools, anchors, leases and relays. Everything is JSON; refusals are problem details (RFC 9457) with a stable code.',
      license: { name: 'Apache-2.0', identifier: 'Apache-2.0' },
    },
    security: [{ token: [] }, { certificate: [] }],
    paths,
    components: {
      schemas: NAMED,
      responses: Object.fromEntries(
        Object.entries(PROBLEM_TITLES).map(([status, title]) => [
          `Problem${status}`,
          { description: title, content: { 'application/problem+json': { schema: Problem } } },
        ]),
      ),
      securitySchemes: {
        token: {
          type: 'http',
          scheme: 'bearer',
          bearerFormat: 'JWT',
          description: `Access token (RFC 9068) of a configured issuer; one that is bound to a key comes as DPoP (RFC 9449). Scopes: ${Object.entries(
            SCOPES,
          )
            .map(([scope, meaning]) => `\`${scope}\` (${meaning})`)
            .join(', ')}. A token with the claim \`tenant\` is for that tenant only.`,
        },
        certificate: {
          type: 'mutualTLS',
          description: "A certificate of the operators' authority, common name `operator:NAME`.",
        },
      },
    },
  });
}

/** Puts a reference wherever a named schema stands, but where it is defined. */
function withReferences(document: object): object {
  const names = new Map(Object.entries(NAMED).map(([name, schema]) => [JSON.stringify(schema), name]));
  const walk = (value: unknown, path: string): unknown => {
    if (typeof value !== 'object' || value === null) return value;
    const name = names.get(JSON.stringify(value));
    if (name !== undefined && path !== `/components/schemas/${name}`) {
      return { $ref: `#/components/schemas/${name}` };
    }
    if (Array.isArray(value)) return value.map((inner, at) => walk(inner, `${path}/${at}`));
    return Object.fromEntries(
      Object.entries(value).map(([key, inner]) => [key, walk(inner, `${path}/${key}`)]),
    );
  };
  return walk(document, '') as object;
}

function described(one: Operation): object {
  const problems = [400, 401, 403, 404, 429, 500, 503];
  if (one.method !== 'GET') problems.push(409);
  if (one.body !== null) problems.push(413, 415);
  if (one.conditional) problems.push(412, 428);
  return {
    operationId: one.id,
    summary: one.summary,
    tags: [one.tag],
    description: `Needs the scope \`${one.scope}\`. ${
      one.perTenant
        ? 'A token of one tenant sees only what is that tenant’s.'
        : 'Not for tokens of one tenant.'
    }`,
    parameters: [
      ...parameters('path', one.params),
      ...parameters('query', one.query),
      ...(one.conditional
        ? [
            {
              name: 'If-Match',
              in: 'header',
              required: true,
              description: 'the revision that was read, quoted; `*` changes or creates whatever there is',
              schema: { type: 'string' },
            },
          ]
        : []),
    ],
    ...(one.body === null
      ? {}
      : { requestBody: { required: true, content: { 'application/json': { schema: one.body } } } }),
    responses: {
      200: {
        description: 'Done',
        ...(one.revised
          ? { headers: { ETag: { description: 'the revision', schema: { type: 'string' } } } }
          : {}),
        content: { 'application/json': { schema: one.answer } },
      },
      ...Object.fromEntries(
        problems
          .sort((left, right) => left - right)
          .map((status) => [status, { $ref: `#/components/responses/Problem${status}` }]),
      ),
    },
  };
}

function parameters(place: 'path' | 'query', schema: TSchema): object[] {
  const { properties = {}, required = [] } = schema as Properties;
  return Object.entries(properties).map(([name, of]) => {
    const { description, ...bare } = of as TSchema & { description?: string };
    return {
      name,
      in: place,
      required: required.includes(name),
      ...(description === undefined ? {} : { description }),
      schema: bare,
    };
  });
}
