import { request } from 'node:http';
import { MooringError } from '../protocol/errors.ts';
import type { Problem } from './problem.ts';

/** Asks the program behind `path`. Throws ERR_MOORING_NOT_RUNNING when nobody answers, or the error it answered. */
export function askControl(
  path: string,
  method: 'GET' | 'POST',
  url: string,
  body?: object,
): Promise<string> {
  return new Promise((resolve, reject) => {
    const sent = request(
      {
        socketPath: path,
        method,
        path: url,
        headers: { 'content-type': 'application/json' },
        timeout: 30_000,
      },
      (response) => {
        let text = '';
        response.setEncoding('utf8');
        response.on('data', (chunk: string) => {
          text += chunk;
        });
        response.on('end', () => {
          if (response.statusCode === 200) resolve(text);
          else reject(refusal(text));
        });
      },
    );
    sent.on('timeout', () => sent.destroy(new Error('no answer within 30 s')));
    sent.on('error', (cause) =>
      reject(
        new MooringError(
          'ERR_MOORING_NOT_RUNNING',
          `${path}: no mooring program answers; start it with "mooring serve", or name its --config`,
          { cause },
        ),
      ),
    );
    sent.end(body === undefined ? undefined : JSON.stringify(body));
  });
}

function refusal(text: string): MooringError {
  try {
    const { code, detail, temporary } = JSON.parse(text) as Problem;
    return new MooringError(code as `ERR_MOORING_${string}`, detail, { temporary });
  } catch {
    return new MooringError(
      'ERR_MOORING_INTERNAL',
      `the program answered ${JSON.stringify(text.slice(0, 200))}`,
    );
  }
}
