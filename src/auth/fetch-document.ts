import { request as httpRequest, type IncomingMessage } from 'node:http';
import { request as httpsRequest } from 'node:https';

export interface FetchOptions {
  /** PEM of the authority to trust instead of the system's. */
  readonly ca?: string | undefined;
  /** Whole time allowed, milliseconds. */
  readonly timeoutMs: number;
  /** Longest body accepted, octets. */
  readonly maxBytes: number;
}

/**
 * GETs a JSON document: status 200 only, no redirects, bounded in time and size. Throws an Error that names the
 * URL and what was wrong.
 */
export function fetchDocument(url: string, options: FetchOptions): Promise<unknown> {
  const signal = AbortSignal.timeout(options.timeoutMs);
  return new Promise((resolve, reject) => {
    const fail = (reason: string) => reject(new Error(`GET ${url}: ${reason}`));
    const answered = (response: IncomingMessage) => {
      if (response.statusCode !== 200) {
        response.destroy();
        fail(`status ${response.statusCode}, expected 200`);
        return;
      }
      const chunks: Buffer[] = [];
      let size = 0;
      response.on('data', (chunk: Buffer) => {
        size += chunk.length;
        chunks.push(chunk);
        if (size > options.maxBytes) response.destroy(new Error(`longer than ${options.maxBytes} octets`));
      });
      response.on('error', (error) => fail(error.message));
      response.on('end', () => {
        try {
          resolve(JSON.parse(Buffer.concat(chunks).toString('utf8')));
        } catch {
          fail('the body is not JSON');
        }
      });
    };
    const headers = { accept: 'application/json' };
    const request = url.startsWith('https:')
      ? httpsRequest(
          url,
          { signal, headers, agent: false, ...(options.ca === undefined ? {} : { ca: options.ca }) },
          answered,
        )
      : httpRequest(url, { signal, headers, agent: false }, answered);
    request.on('error', (error) =>
      fail(signal.aborted ? `no answer within ${options.timeoutMs} ms` : error.message),
    );
    request.end();
  });
}
