import { type RunningIssuer, startIssuer } from '../../../infra/issuer/issuer.ts';

export const ADMIN_AUDIENCE = 'https://admin.mooring.test/';
export const DEVICE_AUDIENCE = 'https://door.mooring.test/';
export const ALL_SCOPES = ['mooring:read', 'mooring:pools', 'mooring:leases', 'mooring:relays'];

/** Operators as the issuer knows them; each has its name as its secret too. */
const OPERATORS = [
  { clientId: 'root', scopes: ALL_SCOPES, bound: false },
  { clientId: 'other-root', scopes: ALL_SCOPES, bound: false },
  { clientId: 'reader', scopes: ['mooring:read'], bound: false },
  { clientId: 'scopeless', bound: false },
  { clientId: 'acme', tenant: 'acme', scopes: ALL_SCOPES, bound: false },
  { clientId: 'bound', scopes: ALL_SCOPES, bound: true },
] as const;
export type OperatorName = (typeof OPERATORS)[number]['clientId'];

const secretOf = (name: string) => `${name}-${'s'.repeat(40)}`;

/** The real issuer, with operators. */
export function startOperatorIssuer(): Promise<RunningIssuer> {
  return startIssuer({
    host: '127.0.0.1',
    port: 0,
    audience: ADMIN_AUDIENCE,
    furtherAudiences: [DEVICE_AUDIENCE],
    devices: OPERATORS.map((one) => ({ ...one, clientSecret: secretOf(one.clientId) })),
  });
}

/** An access token by client_credentials; `proofOf` makes the DPoP proof for a bound one. */
export async function fetchOperatorToken(
  issuer: RunningIssuer,
  name: OperatorName,
  options: {
    readonly audience?: string;
    readonly proofOf?: (url: string, nonce: string | undefined) => Promise<string>;
  } = {},
): Promise<string> {
  const { audience = ADMIN_AUDIENCE, proofOf } = options;
  const scopes: readonly string[] = OPERATORS.flatMap((one) =>
    one.clientId === name && 'scopes' in one ? one.scopes : [],
  );
  let nonce: string | undefined;
  for (let attempt = 0; attempt < 2; attempt += 1) {
    const response = await fetch(issuer.tokenEndpoint, {
      method: 'POST',
      headers: {
        authorization: `Basic ${Buffer.from(`${name}:${secretOf(name)}`).toString('base64')}`,
        ...(proofOf === undefined ? {} : { dpop: await proofOf(issuer.tokenEndpoint, nonce) }),
      },
      body: new URLSearchParams({
        grant_type: 'client_credentials',
        resource: audience,
        ...(scopes.length === 0 ? {} : { scope: scopes.join(' ') }),
      }),
    });
    const body = (await response.json()) as { access_token?: string; error?: string };
    if (body.access_token !== undefined) return body.access_token;
    nonce = response.headers.get('dpop-nonce') ?? undefined;
    if (body.error !== 'use_dpop_nonce') throw new Error(`token refused: ${JSON.stringify(body)}`);
  }
  throw new Error('the issuer asked for a second nonce');
}
