import { createHash, randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { type IncomingMessage, type RequestOptions, request as requestHttp } from 'node:http';
import { request as requestHttps } from 'node:https';
import { join } from 'node:path';
import { MooringError, type RsipErrorNumber } from '../../protocol/errors.ts';

/** Where the admin API is, and what shows who we are. */
export interface Target {
  /** Configuration of a program on this machine: its control socket is used. */
  readonly config?: string | undefined;
  readonly url?: string | undefined;
  /** Access token. */
  readonly tokenFile?: string | undefined;
  /** Private JWK that the token is bound to (RFC 9449). */
  readonly dpopKeyFile?: string | undefined;
  /** Authority of the server's certificate, if private. */
  readonly caFile?: string | undefined;
  /** An operator's certificate. */
  readonly certFile?: string | undefined;
  readonly keyFile?: string | undefined;
}

export interface Question {
  readonly query?: Readonly<Record<string, string | number | undefined>>;
  readonly body?: object;
  /** The revision that the change is of. */
  readonly revision?: string;
}

export interface AdminClient {
  /** Resolves with the answer's JSON; rejects with the error of the problem that was answered. */
  ask<T>(method: 'GET' | 'PUT' | 'POST' | 'DELETE', path: string, question?: Question): Promise<T>;
}

const TIMEOUT_MS = 60_000;

export async function createAdminClient(target: Target): Promise<AdminClient> {
  if (target.url !== undefined) return overNetwork(target, target.url);
  if (target.config === undefined) {
    throw new MooringError(
      'ERR_MOORING_USAGE',
      '--config is missing; name the configuration file of a program on this machine, or another one’s --url with --token-file',
    );
  }
  const { loadSettings } = await import('../../config/load.ts');
  const socketPath = join(loadSettings(target.config).dataDir, 'control.sock');
  return {
    ask: (method, path, question = {}) =>
      exchange(requestHttp, { socketPath, path: withQuery(path, question) }, method, question, socketPath),
  };
}

function overNetwork(target: Target, base: string): AdminClient {
  const { hostname, port, protocol } = new URL(base);
  const token = target.tokenFile === undefined ? undefined : read(target.tokenFile, '--token-file').trim();
  const tls = {
    ...(target.caFile === undefined ? {} : { ca: read(target.caFile, '--ca-file') }),
    ...(target.certFile === undefined ? {} : { cert: read(target.certFile, '--cert-file') }),
    ...(target.keyFile === undefined ? {} : { key: read(target.keyFile, '--key-file') }),
  };
  return {
    async ask(method, path, question = {}) {
      const headers: Record<string, string> = {};
      if (token !== undefined && target.dpopKeyFile !== undefined) {
        headers.authorization = `DPoP ${token}`;
        headers.dpop = await proofFor(target.dpopKeyFile, token, method, new URL(path, base).href);
      } else if (token !== undefined) headers.authorization = `Bearer ${token}`;
      const options = { host: hostname.replace(/^\[(.*)\]$/, '$1'), port, headers, ...tls };
      const send = protocol === 'https:' ? requestHttps : requestHttp;
      return exchange(send, { ...options, path: withQuery(path, question) }, method, question, base);
    },
  };
}

function exchange<T>(
  send: typeof requestHttp,
  options: RequestOptions,
  method: string,
  { body, revision }: Question,
  where: string,
): Promise<T> {
  return new Promise((resolve, reject) => {
    const headers = {
      ...(options.headers as Record<string, string> | undefined),
      accept: 'application/json',
      ...(body === undefined ? {} : { 'content-type': 'application/json' }),
      ...(revision === undefined ? {} : { 'if-match': `"${revision}"` }),
    };
    const sent = send({ ...options, method, headers, agent: false, timeout: TIMEOUT_MS }, (response) => {
      receive(response).then(
        (text) => {
          try {
            if (response.statusCode === 200) resolve(JSON.parse(text) as T);
            else reject(errorOf(response.statusCode ?? 0, text));
          } catch {
            reject(errorOf(response.statusCode ?? 0, text));
          }
        },
        (cause: Error) => reject(unreachable(where, cause)),
      );
    });
    sent.on('timeout', () => sent.destroy(new Error(`no answer within ${TIMEOUT_MS / 1000} s`)));
    sent.on('error', (cause) => reject(unreachable(where, cause)));
    sent.end(body === undefined ? undefined : JSON.stringify(body));
  });
}

async function receive(response: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of response) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks).toString('utf8');
}

/** The problem (RFC 9457) as the error that it was. */
function errorOf(status: number, text: string): MooringError {
  try {
    const problem = JSON.parse(text) as {
      code: `ERR_MOORING_${string}`;
      detail: string;
      rsip?: RsipErrorNumber;
      temporary: boolean;
      retryAfterMs?: number;
    };
    if (!/^ERR_MOORING_/.test(problem.code)) throw new Error('another form');
    return new MooringError(problem.code, problem.detail, {
      temporary: problem.temporary,
      ...(problem.rsip === undefined ? {} : { rsip: problem.rsip }),
      ...(problem.retryAfterMs === undefined ? {} : { retryAfterMs: problem.retryAfterMs }),
      data: { status },
    });
  } catch {
    return new MooringError(
      'ERR_MOORING_ANSWER',
      `the server answered ${status} ${JSON.stringify(text.slice(0, 120))}; check that --url is a Mooring admin API`,
      { data: { status } },
    );
  }
}

function unreachable(where: string, cause: Error): MooringError {
  return new MooringError(
    'ERR_MOORING_NOT_RUNNING',
    `${where}: no mooring program answers (${cause.message}); start it with "mooring serve", or name another --config or --url`,
    { cause },
  );
}

function withQuery(path: string, { query = {} }: Question): string {
  const pairs = Object.entries(query).flatMap(([name, value]): [string, string][] =>
    value === undefined ? [] : [[name, String(value)]],
  );
  return pairs.length === 0 ? path : `${path}?${new URLSearchParams(pairs)}`;
}

function read(file: string, option: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch (cause) {
    throw new MooringError('ERR_MOORING_USAGE', `${option} ${file}: cannot be read; name a readable file`, {
      cause,
    });
  }
}

/** A proof for this one request (RFC 9449 §4.2). */
async function proofFor(keyFile: string, token: string, method: string, url: string): Promise<string> {
  const { importJWK, SignJWT } = await import('jose');
  const jwk = JSON.parse(read(keyFile, '--dpop-key-file')) as Record<string, string>;
  // What is private stays here.
  const shown = ['kty', 'crv', 'x', 'y'].filter((member) => jwk[member] !== undefined);
  const publicJwk = Object.fromEntries(shown.map((member) => [member, jwk[member]]));
  const alg = jwk.kty === 'OKP' ? 'EdDSA' : 'ES256';
  return new SignJWT({
    jti: randomUUID(),
    htm: method,
    htu: url,
    ath: createHash('sha256').update(token).digest('base64url'),
  })
    .setProtectedHeader({ typ: 'dpop+jwt', alg, jwk: publicJwk })
    .setIssuedAt()
    .sign(await importJWK(jwk, alg));
}
