import { readFileSync, writeFileSync } from 'node:fs';
import { createServer as createHttpServer, type Server } from 'node:http';
import { createServer as createHttpsServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { exportJWK, generateKeyPair, type JWK } from 'jose';
import Provider, { type ClientMetadata, type Configuration, errors } from 'oidc-provider';
import { createMemoryAdapters } from './memory-adapter.ts';
import { servePeople } from './people.ts';

/** A device as the issuer knows it: an OAuth client with the `client_credentials` grant. */
export interface IssuerDevice {
  /** OAuth client id; becomes `sub` and `client_id` of the access token. */
  readonly clientId: string;
  /** Becomes the `tenant` claim; an operator of all tenants has none. */
  readonly tenant?: string;
  /** Scopes that it may ask for. Default: `lease`, as devices do. */
  readonly scopes?: readonly string[];
  /** Its tokens are bound to its key (RFC 9449). Default true. */
  readonly bound?: boolean;
  /** Public key: the device authenticates with `private_key_jwt` (RFC 7523 §2.2), ES256 or Ed25519. */
  readonly publicJwk?: JWK;
  /** Used when there is no `publicJwk`: the device authenticates with `client_secret_basic`. */
  readonly clientSecret?: string;
}

/** An application in which people sign in for their devices: a public client with the device grant (RFC 8628). */
export interface IssuerApplication {
  readonly clientId: string;
  /** Account → tenant of the people who may sign in. */
  readonly people: Readonly<Record<string, string>>;
}

export interface IssuerOptions {
  /** Address to listen on. */
  readonly host: string;
  /** Port to listen on; 0 chooses a free one. */
  readonly port: number;
  /** PEM texts; without them the issuer speaks plain HTTP. */
  readonly tls?: { readonly key: string; readonly cert: string };
  /** The issuer identifier, when it is reached by another name than `host`. Default: the listening URL. */
  readonly url?: string;
  readonly devices: readonly IssuerDevice[];
  readonly application?: IssuerApplication;
  /** Resource indicator (RFC 8707) that devices ask for; becomes `aud`. An absolute URI. */
  readonly audience: string;
  /** What else may be asked for, by others than devices. */
  readonly furtherAudiences?: readonly string[];
  /** Life of an access token, seconds. Default 600. */
  readonly tokenTtlS?: number;
  /** JWK set with the private signing keys; created (mode 0600) when absent. Default: fresh keys in memory. */
  readonly keysFile?: string;
}

export interface RunningIssuer {
  readonly url: string;
  readonly jwksUri: string;
  readonly tokenEndpoint: string;
  readonly deviceAuthorizationEndpoint: string;
  close(): Promise<void>;
}

/**
 * Starts the issuer that development and tests use: `oidc-provider` with the `client_credentials` grant, DPoP
 * (RFC 9449, server nonce required), resource indicators (RFC 8707) and JWT access tokens (RFC 9068, ES256).
 *
 * A device fetches a token like this:
 * ```
 * POST <tokenEndpoint>
 * Content-Type: application/x-www-form-urlencoded
 * DPoP: <proof: typ dpop+jwt, public jwk; jti, htm POST, htu <tokenEndpoint>, iat[, nonce]>
 *
 * grant_type=client_credentials&scope=lease&resource=<audience>
 *   &client_assertion_type=urn:ietf:params:oauth:client-assertion-type:jwt-bearer
 *   &client_assertion=<JWT: iss and sub = client id, aud = issuer url, jti, iat, exp within a minute>
 * ```
 * The first answer is 400 `{"error":"use_dpop_nonce"}` with a `DPoP-Nonce` header: the device repeats the request
 * with that nonce in the proof and a new `jti` in proof and assertion. 200 answers `{access_token, token_type:
 * "DPoP", expires_in}`, perhaps with the next `DPoP-Nonce`.
 */
export async function startIssuer(options: IssuerOptions): Promise<RunningIssuer> {
  const keys = await signingKeys(options.keysFile);
  const server: Server = options.tls === undefined ? createHttpServer() : createHttpsServer(options.tls);
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(options.port, options.host, resolve);
  });
  const { port } = server.address() as AddressInfo;
  const host = options.host.includes(':') ? `[${options.host}]` : options.host;
  const url = options.url ?? `${options.tls === undefined ? 'http' : 'https'}://${host}:${port}`;
  const provider = new Provider(url, configuration(options, keys));
  const people = servePeople(provider, new Set(Object.keys(options.application?.people ?? {})));
  const callback = provider.callback();
  server.on('request', (request, response) => {
    people(request, response)
      .then((served) => (served ? undefined : callback(request, response)))
      .catch((error: Error) => response.writeHead(400).end(error.message));
  });
  return {
    url,
    jwksUri: `${url}/jwks`,
    tokenEndpoint: `${url}/token`,
    deviceAuthorizationEndpoint: `${url}/device/auth`,
    close: () =>
      new Promise((resolve, reject) => {
        server.close((error) => (error ? reject(error) : resolve()));
        server.closeAllConnections();
      }),
  };
}

function configuration(options: IssuerOptions, keys: readonly JWK[]): Configuration {
  const { application } = options;
  const tenants = new Map([
    ...options.devices.map(({ clientId, tenant }) => [clientId, tenant] as const),
    ...Object.entries(application?.people ?? {}),
  ]);
  const ttlS = options.tokenTtlS ?? 600;
  const scopes = [...new Set(['lease', ...options.devices.flatMap(({ scopes = [] }) => scopes)])];
  return {
    adapter: createMemoryAdapters(),
    clients: [
      ...options.devices.map(client),
      ...(application === undefined ? [] : [publicClient(application)]),
    ],
    jwks: { keys: [...keys] } as NonNullable<Configuration['jwks']>,
    scopes: ['openid', 'offline_access', ...scopes],
    clientAuthMethods: ['private_key_jwt', 'client_secret_basic', 'none'],
    findAccount: (_ctx, accountId) => ({ accountId, claims: () => ({ sub: accountId }) }),
    interactions: { url: (_ctx, interaction) => `/interaction/${interaction.uid}` },
    cookies: { keys: [Buffer.from(crypto.getRandomValues(new Uint8Array(16))).toString('hex')] },
    enabledJWA: {
      clientAuthSigningAlgValues: ['ES256', 'Ed25519'],
      dPoPSigningAlgValues: ['ES256', 'Ed25519'],
    },
    features: {
      devInteractions: { enabled: false },
      clientCredentials: { enabled: true },
      deviceFlow: { enabled: application !== undefined },
      dPoP: {
        enabled: true,
        nonceSecret: crypto.getRandomValues(Buffer.alloc(32)),
        requireNonce: () => true,
      },
      resourceIndicators: {
        enabled: true,
        useGrantedResource: () => true,
        getResourceServerInfo: (_ctx, resource) => {
          if (![options.audience, ...(options.furtherAudiences ?? [])].includes(resource)) {
            throw new errors.InvalidTarget();
          }
          return {
            scope: scopes.join(' '),
            audience: resource,
            accessTokenFormat: 'jwt',
            accessTokenTTL: ttlS,
            jwt: { sign: { alg: 'ES256' } },
          };
        },
      },
    },
    ttl: { ClientCredentials: ttlS, AccessToken: ttlS },
    rotateRefreshToken: true,
    extraTokenClaims: (_ctx, token) => {
      const who = token.kind === 'AccessToken' ? token.accountId : token.clientId;
      return { tenant: tenants.get(who ?? '') };
    },
  };
}

function publicClient({ clientId }: IssuerApplication): ClientMetadata {
  return {
    client_id: clientId,
    application_type: 'native',
    token_endpoint_auth_method: 'none',
    grant_types: ['urn:ietf:params:oauth:grant-type:device_code', 'refresh_token'],
    redirect_uris: [],
    response_types: [],
    scope: 'openid offline_access lease',
    dpop_bound_access_tokens: true,
    id_token_signed_response_alg: 'ES256',
  };
}

function client(device: IssuerDevice): ClientMetadata {
  const shared = {
    client_id: device.clientId,
    grant_types: ['client_credentials'],
    redirect_uris: [],
    response_types: [],
    scope: (device.scopes ?? ['lease']).join(' '),
    dpop_bound_access_tokens: device.bound ?? true,
    id_token_signed_response_alg: 'ES256',
  } as const;
  if (device.publicJwk !== undefined) {
    const { kty, crv, x, y } = device.publicJwk;
    const alg = kty === 'OKP' ? 'Ed25519' : 'ES256';
    const key = y === undefined ? { kty, crv, x } : { kty, crv, x, y };
    return {
      ...mutable(shared),
      token_endpoint_auth_method: 'private_key_jwt',
      token_endpoint_auth_signing_alg: alg,
      jwks: { keys: [key] } as NonNullable<ClientMetadata['jwks']>,
    };
  }
  if (device.clientSecret === undefined) {
    throw new Error(`device ${device.clientId}: give a publicJwk or a clientSecret`);
  }
  return {
    ...mutable(shared),
    token_endpoint_auth_method: 'client_secret_basic',
    client_secret: device.clientSecret,
  };
}

function mutable(shared: object): ClientMetadata {
  return structuredClone(shared) as ClientMetadata;
}

async function signingKeys(file: string | undefined): Promise<readonly JWK[]> {
  if (file !== undefined) {
    const stored = readIfPresent(file);
    if (stored !== null) return (JSON.parse(stored) as { keys: JWK[] }).keys;
  }
  const { privateKey } = await generateKeyPair('ES256', { extractable: true });
  const kid = Buffer.from(crypto.getRandomValues(new Uint8Array(8))).toString('hex');
  const keys = [{ ...(await exportJWK(privateKey)), kid, use: 'sig', alg: 'ES256' }];
  if (file !== undefined) writeFileSync(file, JSON.stringify({ keys }), { mode: 0o600 });
  return keys;
}

function readIfPresent(file: string): string | null {
  try {
    return readFileSync(file, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null;
    throw error;
  }
}
