import { MooringError } from '../../src/protocol/errors.ts';
import type { DpopKey } from '../sdk/dpop.ts';
import type { LaptopConfig } from './config.ts';
import type { StateDir } from './state-dir.ts';
import type { TokenGrant } from './token.ts';
import { createIssuerClient, type IssuerAnswer, reasonOf } from './token-endpoint.ts';

/** Holds the refresh token, which is bound to the device's key: good for nothing without it (RFC 9449 §5). */
const LOGIN_FILE = 'login.json';

const DEVICE_CODE_GRANT = 'urn:ietf:params:oauth:grant-type:device_code';
/** RFC 8628 §3.2: when the issuer names no interval. */
const DEFAULT_INTERVAL_S = 5;
/** RFC 8628 §3.5: what `slow_down` adds. */
const SLOWER_BY_S = 5;

interface Login {
  readonly refreshToken: string;
}

/** Where and with what a person signs in for this device. */
export interface LoginPrompt {
  readonly url: string;
  readonly code: string;
  /** The address with the code in it, when the issuer gives one. */
  readonly completeUrl: string | null;
  readonly expiresInS: number;
}

export interface LogInOptions {
  readonly prompt: (prompt: LoginPrompt) => void;
  /** Resolves after so many milliseconds. */
  readonly wait: (ms: number) => Promise<void>;
}

/** Access tokens for a person's device: refresh tokens, each good for one use (RFC 6749 §6, RFC 9700 §4.14.2). */
export function userLogin(settings: LaptopConfig['issuer'], state: StateDir): TokenGrant {
  return {
    remedy: 'sign in again with `mooring login`',
    async form() {
      const login = readLogin(state);
      if (login === null) {
        throw new MooringError(
          'ERR_MOORING_LOGIN',
          `nobody has signed in on this device (${state.file(LOGIN_FILE)}); run \`mooring login\`, or configure issuer.privateKeyFile`,
        );
      }
      return {
        grant_type: 'refresh_token',
        refresh_token: login.refreshToken,
        client_id: settings.clientId,
        resource: settings.audience,
      };
    },
    taken: ({ refresh_token: next }) => {
      if (typeof next === 'string') writeLogin(state, { refreshToken: next });
    },
  };
}

/**
 * The device authorization grant (RFC 8628): shows where to sign in, waits until that was done, keeps the refresh
 * token. Throws ERR_MOORING_CONFIG without an endpoint for it, ERR_MOORING_LOGIN when it was denied or took too long.
 */
export async function logIn(
  settings: LaptopConfig['issuer'],
  key: DpopKey,
  state: StateDir,
  { prompt, wait }: LogInOptions,
): Promise<void> {
  const { deviceAuthorizationEndpoint: endpoint, clientId, audience, scope } = settings;
  if (endpoint === undefined) {
    throw new MooringError(
      'ERR_MOORING_CONFIG',
      'issuer.deviceAuthorizationEndpoint is missing; take device_authorization_endpoint of the issuer’s metadata (RFC 8414)',
      { data: { field: 'issuer.deviceAuthorizationEndpoint' } },
    );
  }
  const issuer = createIssuerClient(settings.caFile, key);
  const started = await issuer.post(endpoint, async () => ({
    client_id: clientId,
    scope: `openid offline_access ${scope}`,
    resource: audience,
    prompt: 'consent',
  }));
  const { deviceCode, intervalS, ...shown } = readStart(endpoint, started);
  prompt(shown);
  let everyS = intervalS;
  for (let leftS = shown.expiresInS; leftS > 0; leftS -= everyS) {
    await wait(everyS * 1000);
    const answer = await issuer
      .post(settings.tokenEndpoint, async () => ({
        grant_type: DEVICE_CODE_GRANT,
        device_code: deviceCode,
        client_id: clientId,
      }))
      .catch((error: unknown) => {
        // RFC 8628 §3.5: a connection that fails is tried again, more slowly.
        if (error instanceof MooringError && error.temporary) return null;
        throw error;
      });
    if (answer === null || answer.body.error === 'slow_down') everyS += SLOWER_BY_S;
    else if (answer.status === 200) {
      keep(state, answer);
      return;
    } else if (answer.body.error !== 'authorization_pending') {
      throw failed(`${settings.tokenEndpoint} ${reasonOf(answer)}`);
    }
  }
  throw failed(`nobody signed in within ${shown.expiresInS} s`);
}

function readStart(endpoint: string, answer: IssuerAnswer) {
  const { body } = answer;
  const text = (name: string): string => {
    const value = body[name];
    if (answer.status === 200 && typeof value === 'string') return value;
    throw failed(`${endpoint} ${answer.status === 200 ? `answered without ${name}` : reasonOf(answer)}`);
  };
  const complete = body.verification_uri_complete;
  return {
    deviceCode: text('device_code'),
    code: text('user_code'),
    url: text('verification_uri'),
    completeUrl: typeof complete === 'string' ? complete : null,
    expiresInS: typeof body.expires_in === 'number' ? body.expires_in : 600,
    intervalS: typeof body.interval === 'number' ? body.interval : DEFAULT_INTERVAL_S,
  };
}

function keep(state: StateDir, { body }: IssuerAnswer): void {
  if (typeof body.refresh_token !== 'string') {
    throw failed('the issuer gave no refresh token: allow offline_access for this client');
  }
  writeLogin(state, { refreshToken: body.refresh_token });
}

function failed(what: string): MooringError {
  return new MooringError('ERR_MOORING_LOGIN', `not signed in: ${what}; run \`mooring login\` again`);
}

function readLogin(state: StateDir): Login | null {
  const text = state.read(LOGIN_FILE);
  if (text === null) return null;
  try {
    const { refreshToken } = JSON.parse(text) as Partial<Login>;
    return typeof refreshToken === 'string' ? { refreshToken } : null;
  } catch {
    return null;
  }
}

function writeLogin(state: StateDir, login: Login): void {
  state.write(LOGIN_FILE, JSON.stringify(login));
}
