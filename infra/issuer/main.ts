import { readFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { type IssuerDevice, startIssuer } from './issuer.ts';

/**
 * Runs the development issuer until SIGINT or SIGTERM, and prints one JSON line `{url, jwksUri, tokenEndpoint}`
 * when it listens.
 *
 * `--devices` names a JSON file: an array of `{clientId, tenant, publicJwk | clientSecret}`.
 */
const { values } = parseArgs({
  options: {
    host: { type: 'string', default: '127.0.0.1' },
    port: { type: 'string', default: '0' },
    url: { type: 'string' },
    audience: { type: 'string' },
    devices: { type: 'string' },
    keys: { type: 'string' },
    'tls-key': { type: 'string' },
    'tls-cert': { type: 'string' },
    'token-ttl': { type: 'string' },
  },
});

function required(name: 'audience' | 'devices'): string {
  const value = values[name];
  if (value === undefined) {
    process.stderr.write(`issuer: --${name} is missing; see the head of infra/issuer/main.ts\n`);
    process.exit(2);
  }
  return value;
}

const tlsKey = values['tls-key'];
const tlsCert = values['tls-cert'];
const issuer = await startIssuer({
  host: values.host,
  port: Number(values.port),
  audience: required('audience'),
  devices: JSON.parse(readFileSync(required('devices'), 'utf8')) as IssuerDevice[],
  ...(values.url === undefined ? {} : { url: values.url }),
  ...(values.keys === undefined ? {} : { keysFile: values.keys }),
  ...(values['token-ttl'] === undefined ? {} : { tokenTtlS: Number(values['token-ttl']) }),
  ...(tlsKey === undefined || tlsCert === undefined
    ? {}
    : { tls: { key: readFileSync(tlsKey, 'utf8'), cert: readFileSync(tlsCert, 'utf8') } }),
});
process.stdout.write(
  `${JSON.stringify({ url: issuer.url, jwksUri: issuer.jwksUri, tokenEndpoint: issuer.tokenEndpoint })}\n`,
);
for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.once(signal, () => void issuer.close().then(() => process.exit(0)));
}
