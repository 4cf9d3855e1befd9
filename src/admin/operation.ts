import type { Static, TSchema } from 'typebox';
import { Value } from 'typebox/value';
import { checked } from '../protocol/checked.ts';
import { badInput } from '../protocol/errors.ts';
import type { Operator, Scope } from './operator.ts';
import type { AdminParts } from './parts.ts';

/** What a handler gets. */
export interface Call<Params, Query, Body> {
  readonly params: Params;
  readonly query: Query;
  readonly body: Body;
  /** Of `If-Match`: the revision that the caller has seen; `*`: whatever there is. Absent: it has said nothing. */
  readonly ifMatch: string | undefined;
  readonly operator: Operator;
  readonly parts: AdminParts;
}

/** One thing that the API can do: what fastify serves, what the OpenAPI document says, what the tests check. */
export interface Operation {
  readonly id: string;
  readonly method: 'GET' | 'PUT' | 'POST' | 'DELETE';
  /** With `{parameters}`. */
  readonly path: string;
  readonly summary: string;
  readonly tag: 'pools' | 'anchors' | 'leases' | 'relays';
  readonly scope: Scope;
  /** An operator of one tenant may call it, and sees what is that tenant's. */
  readonly perTenant: boolean;
  readonly params: TSchema;
  readonly query: TSchema;
  readonly body: TSchema | null;
  readonly answer: TSchema;
  /** It has a revision: ETag in the answer. */
  readonly revised: boolean;
  /** The change is refused without If-Match (RFC 6585 §3). */
  readonly conditional: boolean;
  run(call: Call<unknown, unknown, unknown>): Promise<unknown>;
}

interface Definition<P extends TSchema, Q extends TSchema, B extends TSchema, A extends TSchema>
  extends Pick<Operation, 'id' | 'method' | 'path' | 'summary' | 'tag' | 'scope'> {
  readonly perTenant?: boolean;
  readonly params: P;
  readonly query: Q;
  readonly body?: B;
  /** Checks the body instead of its schema, where defaults are filled in. */
  readonly parseBody?: (body: unknown) => Static<B>;
  readonly answer: A;
  readonly revised?: boolean;
  readonly conditional?: boolean;
  run(call: Call<Static<P>, Static<Q>, Static<B>>): Promise<Static<A>>;
}

/** An operation that gets only what has the promised form; schemas are compiled when they are first needed. */
export function operation<P extends TSchema, Q extends TSchema, B extends TSchema, A extends TSchema>(
  definition: Definition<P, Q, B, A>,
): Operation {
  const { params, query, body = null, parseBody, ...rest } = definition;
  let checks: ((value: unknown) => unknown)[] | null = null;
  return {
    perTenant: false,
    revised: false,
    conditional: false,
    ...rest,
    params,
    query,
    body,
    run(call) {
      checks ??= [params, query, ...(body === null ? [] : [body])].map((schema) => checked(schema));
      const [checkParams, checkQuery, checkBody] = checks;
      if (body === null && call.body !== undefined && call.body !== null) {
        throw badInput('the body', JSON.stringify(call.body), 'send none');
      }
      return definition.run({
        ...call,
        params: checkParams?.(call.params) as Static<P>,
        query: checkQuery?.(fromText(query, call.query)) as Static<Q>,
        body: (parseBody ?? checkBody)?.(call.body) as Static<B>,
      });
    },
  };
}

/** A query is text: numbers are read where the schema promises them. */
function fromText(schema: TSchema, query: unknown): unknown {
  const names = Object.keys((schema as { properties?: object }).properties ?? {});
  for (const [name, value] of Object.entries(query as Record<string, unknown>)) {
    if (Array.isArray(value)) throw badInput(name, value.join(), 'say it once');
    if (!names.includes(name)) continue;
    if (value === '') throw badInput(name, value, 'give it a value, or leave it out');
  }
  return Value.Convert(schema, { ...(query as object) });
}
