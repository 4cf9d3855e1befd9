import { MooringError } from '../../src/protocol/errors.ts';
import type { Credentials } from '../sdk/connection.ts';
import { type DpopKey, dpopProof } from '../sdk/dpop.ts';
import { clientAssertion } from './client-assertion.ts';
import type { LaptopConfig } from './config.ts';
import type { ControlHosts } from './control-hosts.ts';
import { userLogin } from './login.ts';
import type { StateDir } from './state-dir.ts';
import { createIssuerClient, type IssuerAnswer, reasonOf } from './token-endpoint.ts';

export interface TokenClient {
  /** A token with at least a minute left; `fresh` always fetches one. */
  credentials(fresh: boolean): Promise<Credentials>;
}

/** One way to get access tokens. */
export interface TokenGrant {
  /** The form of one token request. */
  form(): Promise<Record<string, string>>;
  /** What the issuer gave beside the access token. */
  taken?(body: IssuerAnswer['body']): void;
  /** What a person does when the issuer refuses. */
  readonly remedy: string;
}

/** A token is renewed when less than this is left of it. */
const SPARE_MS = 60_000;

/**
 * Fetches access tokens that are bound to the device's key by DPoP (RFC 9449 §5): as an OAuth client of its own when
 * `privateKeyFile` is configured, else with what `mooring login` left. Errors: ERR_MOORING_TOKEN, temporary unless
 * the issuer refuses; ERR_MOORING_LOGIN when nobody has signed in.
 */
export function createTokenClient(
  settings: LaptopConfig['issuer'],
  key: DpopKey,
  state: StateDir,
  hosts?: ControlHosts,
): TokenClient {
  const issuer = createIssuerClient(settings.caFile, key, hosts);
  const { privateKeyFile } = settings;
  const grant =
    privateKeyFile === undefined ? userLogin(settings, state) : clientAssertion(settings, privateKeyFile);
  let held: { readonly token: string; readonly untilMs: number } | null = null;
  let fetching: Promise<string> | null = null;

  async function fetchToken(): Promise<string> {
    const answer = await issuer.post(settings.tokenEndpoint, () => grant.form());
    if (answer.status !== 200) {
      throw refused(reasonOf(answer), answer.status >= 500 || answer.status === 429);
    }
    // Before the token is looked at: what comes with it may be good for one use only.
    grant.taken?.(answer.body);
    const { access_token: token, expires_in: expiresInS, token_type: type } = answer.body;
    if (typeof token !== 'string' || String(type).toLowerCase() !== 'dpop') {
      throw refused(`answered without a DPoP-bound token (token_type ${String(type)})`, false);
    }
    const lifeMs = (typeof expiresInS === 'number' ? expiresInS : 60) * 1000;
    held = { token, untilMs: performance.now() + lifeMs };
    return token;
  }

  function refused(what: string, temporary: boolean): MooringError {
    const remedy = temporary ? 'it is tried again' : grant.remedy;
    return new MooringError('ERR_MOORING_TOKEN', `${settings.tokenEndpoint} ${what}; ${remedy}`, {
      temporary,
    });
  }

  return {
    async credentials(fresh) {
      if (fresh) held = null;
      let token = held !== null && held.untilMs - performance.now() > SPARE_MS ? held.token : null;
      if (token === null) {
        fetching ??= fetchToken().finally(() => {
          fetching = null;
        });
        token = await fetching;
      }
      const accessToken = token;
      return {
        token: accessToken,
        proof: ({ nonce: serverNonce, url, seal }) =>
          dpopProof(key, { htm: 'GET', htu: url, nonce: serverNonce, accessToken, seal }),
      };
    },
  };
}
