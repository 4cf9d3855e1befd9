import { MooringError } from '../protocol/errors.ts';

/** Where the registry's servers are, and how they belong together. */
export type RedisAddress =
  | { readonly shape: 'socket'; readonly path: string }
  | (Remote & { readonly shape: 'standalone'; readonly database: number })
  | (Remote & { readonly shape: 'sentinel'; readonly primaryName: string })
  | (Remote & { readonly shape: 'cluster' });

interface Remote {
  /** Servers, or sentinels: any of them leads to the others. */
  readonly hosts: readonly { readonly host: string; readonly port: number }[];
  readonly tls: boolean;
  /** ACL user; default: the server's default user. */
  readonly user: string | null;
  readonly password: string | null;
}

const FORM = /^redis(s?)(?:\+(sentinel|cluster))?:\/\/(?:([^@/]*)@)?([^@/]+)(?:\/([^@/]*))?$/;
const PORT = { standalone: 6379, cluster: 6379, sentinel: 26_379 };
const FORMS =
  'write redis://HOST:PORT, redis+sentinel://HOST:PORT,HOST:PORT/PRIMARY, redis+cluster://HOST:PORT,HOST:PORT (rediss… with TLS; USER@ before the first host), or the path of a unix socket';

/**
 * Reads `redis://`, `redis+sentinel://HOST,HOST/PRIMARY`, `redis+cluster://HOST,HOST`, each also with `rediss`
 * for TLS and with `USER@` or `USER:PASSWORD@`, or the path of a unix socket.
 * Throws ERR_MOORING_CONFIG with what may be written; the password is in no message.
 */
export function parseRedisUrl(text: string): RedisAddress {
  if (text.startsWith('/')) return { shape: 'socket', path: text };
  const parts = FORM.exec(text);
  if (parts === null) throw wrong(text, FORMS);
  const [, s, kind, access = '', hostList = '', rest = ''] = parts;
  const shape = (kind ?? 'standalone') as 'standalone' | 'sentinel' | 'cluster';
  const colon = access.indexOf(':');
  const part = (raw: string) => {
    try {
      return raw === '' ? null : decodeURIComponent(raw);
    } catch {
      throw wrong(text, 'write % in a user or password as %25');
    }
  };
  const remote = {
    hosts: hostList.split(',').map((one) => hostFrom(one, PORT[shape], text)),
    tls: s === 's',
    user: part(colon < 0 ? access : access.slice(0, colon)),
    password: part(colon < 0 ? '' : access.slice(colon + 1)),
  };
  switch (shape) {
    case 'sentinel':
      if (rest === '')
        throw wrong(text, 'end it with the name that the sentinels have for the primary: …/mymaster');
      return { ...remote, shape, primaryName: rest };
    case 'cluster':
      if (rest !== '' && rest !== '0')
        throw wrong(text, 'a cluster has no numbered databases: end it after the hosts');
      return { ...remote, shape };
    case 'standalone': {
      if (!/^\d{0,4}$/.test(rest))
        throw wrong(text, 'after the host there may only be the number of a database');
      if (remote.hosts.length > 1)
        throw wrong(text, 'for several hosts write redis+sentinel:// or redis+cluster://');
      return { ...remote, shape, database: Number(rest) };
    }
  }
}

function hostFrom(text: string, port: number, url: string): { host: string; port: number } {
  const parts = /^(?:\[([0-9a-f:.]+)\]|([\w.-]+))(?::(\d{1,5}))?$/i.exec(text);
  const number = Number(parts?.[3] ?? port);
  if (parts === null || number < 1 || number > 65_535) {
    throw wrong(url, `"${text}" is no HOST:PORT; an IPv6 address stands in brackets`);
  }
  return { host: (parts[1] ?? parts[2]) as string, port: number };
}

/** The text without the password that may be in it. */
export function withoutPassword(text: string): string {
  return text.replace(/^([^:/]*:\/\/[^:@]*):.*@/s, '$1@').replace(/^([^:/]*:\/\/)@/, '$1');
}

function wrong(text: string, remedy: string): MooringError {
  const shown = withoutPassword(text);
  return new MooringError('ERR_MOORING_CONFIG', `redisUrl is ${JSON.stringify(shown)}; ${remedy}`, {
    data: { redisUrl: shown },
  });
}
