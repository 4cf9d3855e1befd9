import { randomBytes } from 'node:crypto';
import { Compile } from 'typebox/compile';
import type { RunningIssuer } from '../../../infra/issuer/issuer.ts';
import { createAuthentication } from '../../../src/admin/authentication.ts';
import { createKnownAnchors } from '../../../src/admin/known-anchors.ts';
import { type AdminListener, serveAdmin } from '../../../src/admin/listener.ts';
import { openApiDocument } from '../../../src/admin/openapi.ts';
import { createOperatorVerifier } from '../../../src/auth/operator-token.ts';
import { parsePool } from '../../../src/config/pools.ts';
import type { Lease } from '../../../src/protocol/lease.ts';
import type { OperatorPlane, RelayPlane } from '../../../src/protocol/relay-plane.ts';
import { openRegistry } from '../../../src/registry/open.ts';
import type { Registry } from '../../../src/registry/registry.ts';
import { createMetrics } from '../../../src/telemetry/metrics.ts';
import { type RealRedis, realRedis, silent } from '../registry/real-redis.ts';
import {
  ADMIN_AUDIENCE,
  fetchOperatorToken,
  type OperatorName,
  startOperatorIssuer,
} from './operator-tokens.ts';

export interface Answer {
  readonly status: number;
  readonly headers: Headers;
  // biome-ignore lint/suspicious/noExplicitAny: an answer is checked against the document, then looked into
  readonly body: any;
}

export interface Asked {
  /** Whose token; null: none. Default: root's. */
  readonly as?: OperatorName | null;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: unknown;
  /** Sent as it is, instead of `body`. */
  readonly raw?: string;
}

/** The admin API on loopback over a real Redis, with a real issuer, and relays that do what they are told. */
export interface AdminBed {
  readonly registry: Registry;
  readonly server: RealRedis;
  readonly issuer: RunningIssuer;
  readonly url: string;
  /** Where it listens. */
  readonly base: string;
  /** What relays were asked, and what they answer. */
  readonly relayCalls: [relay: string, call: string, params: unknown][];
  relayFails: Error | null;
  /** Asks, and checks whatever is answered against the OpenAPI document. */
  ask(method: string, path: string, asked?: Asked): Promise<Answer>;
  token(name: OperatorName): Promise<string>;
  grant(tenant: string, id: string, pool?: string): Promise<Lease>;
  close(): Promise<void>;
}

export const BOOT = '0123456789abcdef';

export const SHARED = {
  name: 'shared',
  sharing: 'shared',
  portBlock: 64,
  anchors: [
    { id: 'a1', home: 'r1', endpoints: ['203.0.113.1'], prefixes: ['198.51.100.0/30'] },
    { id: 'a2', home: 'r1', endpoints: ['203.0.113.2'], prefixes: ['198.51.100.16/30'] },
  ],
};

export async function startAdminBed(): Promise<AdminBed> {
  const [server, issuer] = await Promise.all([realRedis(), startOperatorIssuer()]);
  const registry = await openRegistry({ url: server.socket, log: silent });
  const url = 'http://admin.mooring.test/';
  const relayCalls: AdminBed['relayCalls'] = [];
  const tokens = new Map<OperatorName, Promise<string>>();
  const validate = documentCheck();
  const verifier = createOperatorVerifier({
    issuers: [
      {
        issuer: issuer.url,
        audience: ADMIN_AUDIENCE,
        algorithms: ['ES256'],
        wholeSite: true,
      },
    ],
    clockToleranceS: 5,
    log: silent,
  });
  const planeOf = (relay: string): Pick<RelayPlane, 'apply'> & OperatorPlane => {
    const answer = async <T>(call: string, params: unknown, work: () => Promise<T>): Promise<T> => {
      relayCalls.push([relay, call, params]);
      if (bed.relayFails !== null) throw bed.relayFails;
      return work();
    };
    return {
      apply: (params) => answer('apply', params, async () => ({})),
      handOver: (params) =>
        answer('handOver', params, async () => {
          const owner = await registry.owner(params.anchor);
          const { epoch } = await registry.transfer(
            params.anchor,
            relay,
            owner?.epoch ?? 0n,
            params.to,
            BOOT,
            60_000,
          );
          return { epoch: String(epoch), tookMs: 1.5 };
        }),
      claim: (params) =>
        answer('claim', params, async () => {
          const { epoch } = await registry.claim(params.anchor, relay, BOOT, 60_000, true);
          return { epoch: String(epoch) };
        }),
    };
  };
  const listener: AdminListener = await serveAdmin(
    { listen: { host: '127.0.0.1', port: 0 }, url, issuers: [] },
    {
      parts: {
        registry,
        knownAnchors: createKnownAnchors(registry),
        planeFor: async (relay) => planeOf(relay),
        log: silent,
      },
      authenticate: createAuthentication({ verifier, url, rate: { burst: 100_000, perSecond: 100_000 } }),
      metrics: () => createMetrics().registry.metrics(),
    },
    silent,
  );
  const base = `http://127.0.0.1:${listener.port}`;
  const token = (name: OperatorName) => {
    const fetched = tokens.get(name) ?? fetchOperatorToken(issuer, name);
    tokens.set(name, fetched);
    return fetched;
  };
  const bed: AdminBed = {
    ...{ registry, server, issuer, url, base, relayCalls, token },
    relayFails: null,
    async ask(method, path, { as = 'root', headers = {}, body, raw } = {}) {
      const response = await fetch(`${base}${path}`, {
        method,
        headers: {
          ...(as === null ? {} : { authorization: `Bearer ${await token(as)}` }),
          ...(body === undefined && raw === undefined ? {} : { 'content-type': 'application/json' }),
          ...headers,
        },
        ...(body === undefined && raw === undefined ? {} : { body: raw ?? JSON.stringify(body) }),
      });
      const text = await response.text();
      const isJson = /json/.test(response.headers.get('content-type') ?? '');
      const answer = {
        status: response.status,
        headers: response.headers,
        body: isJson ? JSON.parse(text) : text,
      };
      validate(method, path, answer);
      return answer;
    },
    async grant(tenant, id, pool = 'shared') {
      const granted = await registry.grant({
        pool,
        device: { tenant, id },
        thumbprint: 'k'.repeat(43),
        kind: 'rsipsec',
        leaseMs: 600_000,
        requestId: randomBytes(16).toString('hex'),
        quota: 8,
      });
      const owner = await registry.owner(granted.lease.anchor);
      return registry.activate(granted.lease.anchor, granted.lease.id, owner?.epoch ?? 0n);
    },
    async close() {
      await listener.close();
      verifier.close();
      await registry.close();
      await issuer.close();
      await server.stop();
    },
  };
  await registry.declarePool(parsePool(SHARED), 'operator');
  for (const { id } of SHARED.anchors) await registry.claim(id, 'r1', BOOT, 600_000);
  return bed;
}

interface Described {
  readonly responses: Readonly<Record<string, Reference & Content>>;
}
interface Reference {
  readonly $ref?: string;
}
interface Content {
  readonly content?: Readonly<Record<string, { readonly schema: object }>>;
}
interface Document {
  readonly paths: Readonly<Record<string, Readonly<Record<string, Described>>>>;
  readonly components: {
    readonly schemas: Readonly<Record<string, object>>;
    readonly responses: Readonly<Record<string, Content>>;
  };
}

/** Throws when an answer is not what the OpenAPI document says. */
export function documentCheck(): (method: string, path: string, answer: Answer) => void {
  const document = JSON.parse(JSON.stringify(openApiDocument())) as Document;
  const templates = Object.keys(document.paths).map((path) => ({
    path,
    pattern: new RegExp(`^${path.replaceAll(/\{\w+\}/g, '[^/]+')}$`),
  }));
  const resolve = (value: unknown): unknown => {
    if (typeof value !== 'object' || value === null) return value;
    const { $ref } = value as Reference;
    if ($ref !== undefined) return resolve(document.components.schemas[$ref.split('/').at(-1) ?? '']);
    if (Array.isArray(value)) return value.map(resolve);
    return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, resolve(inner)]));
  };
  const compiled = new Map<object, ReturnType<typeof Compile>>();
  return (method, path, { status, headers, body }) => {
    const [bare = ''] = path.split('?');
    const template = templates.find(({ pattern }) => pattern.test(bare));
    const described = template && document.paths[template.path]?.[method.toLowerCase()];
    if (described === undefined) return;
    const said = described.responses[String(status)];
    if (said === undefined)
      throw new Error(`${method} ${bare} answered ${status}, which the document does not know`);
    const response =
      said.$ref === undefined ? said : document.components.responses[said.$ref.split('/').at(-1) ?? ''];
    const [type = ''] = (headers.get('content-type') ?? '').split(';');
    const schema = response?.content?.[type]?.schema;
    if (schema === undefined) throw new Error(`${method} ${bare} answered ${status} as ${type}`);
    const check = compiled.get(schema) ?? Compile(resolve(schema) as never);
    compiled.set(schema, check);
    if (!check.Check(body)) {
      const [first] = check.Errors(body);
      throw new Error(
        `${method} ${bare} ${status}: ${JSON.stringify(first)} in ${JSON.stringify(body).slice(0, 300)}`,
      );
    }
  };
}
