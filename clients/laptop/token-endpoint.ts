import { readFileSync } from 'node:fs';
import { request as httpRequest } from 'node:http';
import { request as httpsRequest } from 'node:https';
import { MooringError } from '../../src/protocol/errors.ts';
import { type DpopKey, dpopProof } from '../sdk/dpop.ts';
import type { ControlHosts } from './control-hosts.ts';

const REQUEST_TIMEOUT_MS = 8_000;
const LONGEST_ANSWER_OCTETS = 65_536;

export interface IssuerAnswer {
  readonly status: number;
  /** Empty when the issuer did not answer with a JSON object. */
  readonly body: Readonly<Record<string, unknown>>;
}

/** An issuer's endpoints as one device uses them. */
export interface IssuerClient {
  /**
   * Posts a form with a DPoP proof of the device's key (RFC 9449 §5), again with the nonce the issuer asks for (§8).
   * `form` is called for each attempt, because what it signs is good for one. Rejects with ERR_MOORING_TOKEN
   * (temporary) when the issuer cannot be reached.
   */
  post(url: string, form: () => Promise<Record<string, string>>): Promise<IssuerAnswer>;
}

/** `hosts`: who says where the issuer is, in the place of the system's resolver. */
export function createIssuerClient(
  caFile: string | undefined,
  key: DpopKey,
  hosts?: ControlHosts,
): IssuerClient {
  const ca = readAuthority(caFile, 'issuer.caFile');
  let nonce: string | undefined;
  return {
    async post(url, form) {
      for (let attempt = 1; ; attempt += 1) {
        const proof = { htm: 'POST', htu: url, ...(nonce === undefined ? {} : { nonce }) } as const;
        const answer = await send(url, ca, hosts, new URLSearchParams(await form()).toString(), {
          DPoP: await dpopProof(key, proof),
        });
        nonce = answer.nonce ?? nonce;
        if (answer.body.error !== 'use_dpop_nonce' || attempt > 1) return answer;
      }
    },
  };
}

/** The certificates of a private authority. Throws ERR_MOORING_CONFIG, which names the setting. */
export function readAuthority(file: string | undefined, setting: string): string | undefined {
  if (file === undefined) return undefined;
  try {
    return readFileSync(file, 'utf8');
  } catch (cause) {
    const reason = (cause as NodeJS.ErrnoException).code;
    throw new MooringError(
      'ERR_MOORING_CONFIG',
      `${setting}: ${file} cannot be read (${reason}); name a PEM file that this user may read`,
      { cause },
    );
  }
}

/** What the issuer says went wrong, for a person. */
export function reasonOf({ status, body }: IssuerAnswer): string {
  const reason = [body.error, body.error_description].filter(Boolean).join(': ');
  return `answered ${status}${reason === '' ? '' : ` ${reason}`}`;
}

interface Answer extends IssuerAnswer {
  readonly nonce: string | undefined;
}

function send(
  url: string,
  ca: string | undefined,
  hosts: ControlHosts | undefined,
  body: string,
  headers: Readonly<Record<string, string>>,
): Promise<Answer> {
  const open = url.startsWith('https:') ? httpsRequest : httpRequest;
  const unreachable = (cause: Error): MooringError =>
    new MooringError('ERR_MOORING_TOKEN', `${url} cannot be reached: ${cause.message}; it is tried again`, {
      temporary: true,
      cause,
    });
  return new Promise((resolve, reject) => {
    const request = open(
      url,
      {
        method: 'POST',
        ...(ca === undefined ? {} : { ca }),
        ...(hosts === undefined ? {} : { lookup: hosts.lookup }),
        agent: false,
        signal: AbortSignal.timeout(REQUEST_TIMEOUT_MS),
        headers: {
          ...headers,
          'content-type': 'application/x-www-form-urlencoded',
          'content-length': Buffer.byteLength(body),
        },
      },
      (response) => {
        hosts?.proven(url, response.socket.remoteAddress);
        const chunks: Buffer[] = [];
        let length = 0;
        response.on('data', (chunk: Buffer) => {
          length += chunk.length;
          if (length > LONGEST_ANSWER_OCTETS) request.destroy(new Error('the answer is longer than 64 KiB'));
          else chunks.push(chunk);
        });
        response.on('error', (cause) => reject(unreachable(cause)));
        response.on('end', () => {
          const nonce = response.headers['dpop-nonce'];
          resolve({
            status: response.statusCode ?? 0,
            nonce: typeof nonce === 'string' ? nonce : undefined,
            body: parseObject(Buffer.concat(chunks).toString('utf8')),
          });
        });
      },
    );
    request.on('error', (cause) => reject(unreachable(cause)));
    request.end(body);
  });
}

function parseObject(text: string): Readonly<Record<string, unknown>> {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {};
  } catch {
    return {};
  }
}
