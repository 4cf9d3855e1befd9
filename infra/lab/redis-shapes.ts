/**
 * Real Redis servers of every shape on loopback: standalone, primary with replicas and sentinels, cluster; each
 * also with TLS and an ACL user. Every server has an address of its own (127.x.y.n) and speaks from it, so that
 * links can be cut one by one. All of it ends with the process that started it.
 */
import { randomInt } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { createAuthority } from './certificates.ts';
import { type LinkCutter, linkCutter } from './link-cutter.ts';
import { type RedisProcess, redisProcess } from './redis-process.ts';

/** Where programs speak from that are no server of the shape: relays, signalling, tests. */
export const CLIENTS = '127.0.0.1';
/** What sentinels call the primary. */
export const PRIMARY_NAME = 'mooring';

const PORT = 7379;
const SENTINEL_PORT = 7380;
const READY_WITHIN_MS = 30_000;
const SLOTS = 16_384;

export interface ShapeOptions {
  /** What `redis.conf` says besides, a line each: `min-replicas-to-write 1`. */
  readonly settings?: readonly string[];
  /** Default false. True: nothing but TLS, and client certificates are demanded. */
  readonly tls?: boolean;
  /** An ACL user who may do everything; the default user is off. */
  readonly user?: { readonly name: string; readonly password: string };
  /** Of every server and sentinel, for instance Valkey's; default `redis-server`. */
  readonly program?: string;
  /** How long a server is silent before others call it down, milliseconds; default 1,000. */
  readonly downAfterMs?: number;
}

export interface RedisShape {
  /** What `redisUrl` would say; without user, password and files. */
  readonly url: string;
  /** `r1` (the first primary), `r2`, … or, in a cluster, `c1`–`c3` (primaries) and `c4`–`c6` (replica of `c1`, …). */
  readonly servers: readonly RedisProcess[];
  readonly sentinels: readonly RedisProcess[];
  /** PEM files for a client, with TLS. */
  readonly tls: { readonly caFile: string; readonly certFile: string; readonly keyFile: string } | undefined;
  /** Temporary directory; removed by `stop`. */
  readonly directory: string;
  server(name: string): RedisProcess;
  /** Those that say they are primaries, reachable by the operator (not by way of any link that may be cut). */
  primaries(): Promise<readonly RedisProcess[]>;
  /** The server that the others hold for the primary of a key; polls until there is one, at most 30 s. */
  primaryOf(key: string): Promise<RedisProcess>;
  /** Nothing passes any more between each of `some` and each of `others`: names, or CLIENTS. Root only. */
  cut(some: readonly string[], others: readonly string[]): Promise<void>;
  /** Everything passes again. */
  heal(): Promise<void>;
  /** Every server up and every replica in step with its primary; at most 30 s. */
  settled(): Promise<void>;
  /** Ends every process by its id and removes the directory. */
  stop(): Promise<void>;
}

/** One server without replicas. */
export function standalone(options: ShapeOptions = {}): Promise<RedisShape> {
  return startShape({ ...options, servers: 1, sentinels: 0, cluster: false });
}

/** A primary, its replicas, and sentinels of which more than half decide; default 2 and 3. */
export function withSentinels({
  replicas = 2,
  sentinels = 3,
  ...options
}: ShapeOptions & { readonly replicas?: number; readonly sentinels?: number } = {}): Promise<RedisShape> {
  return startShape({ ...options, servers: 1 + replicas, sentinels, cluster: false });
}

/** A cluster; default three primaries with a replica each. */
export function cluster({
  primaries = 3,
  replicas = 1,
  ...options
}: ShapeOptions & { readonly primaries?: number; readonly replicas?: 0 | 1 } = {}): Promise<RedisShape> {
  return startShape({
    ...options,
    servers: primaries * (1 + replicas),
    sentinels: 0,
    cluster: true,
    primaries,
  });
}

/** Polls until `holds`, at most 30 s; what throws does not hold yet. */
export async function until(what: string, holds: () => Promise<boolean>): Promise<void> {
  const deadline = Date.now() + READY_WITHIN_MS;
  let last: unknown;
  for (;;) {
    try {
      if (await holds()) return;
      last = undefined;
    } catch (error) {
      last = error;
    }
    if (Date.now() > deadline) throw new Error(`not within ${READY_WITHIN_MS} ms: ${what}`, { cause: last });
    await delay(20);
  }
}

interface Wanted extends ShapeOptions {
  readonly servers: number;
  readonly sentinels: number;
  readonly cluster: boolean;
  readonly primaries?: number;
}

async function startShape(wanted: Wanted): Promise<RedisShape> {
  const directory = mkdtempSync(path.join(tmpdir(), 'mooring-shape-'));
  const net = `127.${randomInt(64, 250)}.${randomInt(1, 250)}`;
  const started: RedisProcess[] = [];
  let cutter: LinkCutter | undefined;
  const stop = async () => {
    await Promise.all(started.map((one) => one.stop()));
    await cutter?.close();
    rmSync(directory, { recursive: true, force: true });
  };
  try {
    const addresses = Array.from({ length: wanted.servers }, (_, at) => `${net}.${at + 1}`);
    const tls = wanted.tls ? await certificates(directory, addresses, net, wanted.sentinels) : undefined;
    const common = [...secured(wanted, tls?.server)];
    const start = (name: string, address: string, port: number, lines: readonly string[]) => {
      const one = redisProcess({
        name,
        address,
        port,
        directory: path.join(directory, name),
        lines: [...listening(address, port, tls !== undefined), ...lines],
        sentinel: port === SENTINEL_PORT,
        program: wanted.program,
        user: wanted.user,
      });
      started.push(one);
      return one;
    };
    const letter = wanted.cluster ? 'c' : 'r';
    const servers = addresses.map((address, at) =>
      start(`${letter}${at + 1}`, address, PORT, [
        ...common,
        ...PERSISTENT,
        ...['repl-diskless-sync-delay 0', 'repl-ping-replica-period 1', 'repl-timeout 5'],
        ...(wanted.cluster ? clusterLines(wanted.downAfterMs ?? 1000) : []),
        ...(wanted.settings ?? []),
        ...(!wanted.cluster && at > 0 ? [`replicaof ${addresses[0]} ${PORT}`] : []),
      ]),
    );
    await Promise.all(servers.map((one) => one.ready()));
    if (wanted.cluster) await joinCluster(servers, wanted.primaries ?? servers.length);
    const sentinels = Array.from({ length: wanted.sentinels }, (_, at) =>
      start(`s${at + 1}`, `${net}.${101 + at}`, SENTINEL_PORT, [
        ...secured({ tls: tls !== undefined }, tls?.server),
        ...watching(addresses[0]!, wanted),
      ]),
    );
    await Promise.all(sentinels.map((one) => one.ready()));
    const scheme = `redis${wanted.tls ? 's' : ''}`;
    const hosts = (of: readonly RedisProcess[]) => of.map((one) => `${one.address}:${one.port}`).join(',');
    const url = wanted.cluster
      ? `${scheme}+cluster://${hosts(servers)}`
      : sentinels.length > 0
        ? `${scheme}+sentinel://${hosts(sentinels)}/${PRIMARY_NAME}`
        : `${scheme}://${hosts(servers)}`;
    const all = [...servers, ...sentinels];
    const named = (name: string) => {
      const found = all.find((one) => one.name === name);
      if (found === undefined) throw new Error(`no server ${name} in this shape`);
      return found;
    };
    const shape: RedisShape = {
      url,
      servers,
      sentinels,
      tls: tls?.client,
      directory,
      server: named,
      async primaries() {
        const roles = await Promise.all(
          servers.map(async (one) => {
            const role = one.running ? await one.call('ROLE').catch(() => []) : [];
            return (role as unknown[])[0] === 'master';
          }),
        );
        return servers.filter((_, at) => roles[at]);
      },
      async primaryOf(key) {
        let found: RedisProcess | undefined;
        await until(`a primary of ${key}`, async () => {
          found = wanted.cluster
            ? await clusterPrimary(servers, key)
            : await heldForPrimary(servers, sentinels);
          return found !== undefined;
        });
        return found as RedisProcess;
      },
      async cut(some, others) {
        cutter ??= await linkCutter();
        const addressOf = (name: string) => (name === CLIENTS ? CLIENTS : named(name).address);
        await cutter.cut(some.flatMap((one) => others.map((other) => [addressOf(one), addressOf(other)])));
      },
      async heal() {
        await cutter?.heal();
      },
      settled: () => settled(servers, sentinels, wanted),
      stop,
    };
    await shape.settled();
    return shape;
  } catch (error) {
    await stop();
    throw error;
  }
}

function listening(address: string, port: number, tls: boolean): string[] {
  return [
    `bind ${address}`,
    `bind-source-addr ${address}`,
    tls ? 'port 0' : `port ${port}`,
    ...(tls ? [`tls-port ${port}`] : []),
    'protected-mode no',
  ];
}

const PERSISTENT = ['appendonly yes', 'appendfsync everysec', 'save ""', 'shutdown-timeout 0'];

function secured({ user, tls }: Pick<ShapeOptions, 'user' | 'tls'>, files?: TlsFiles): string[] {
  return [
    ...(user === undefined
      ? []
      : [
          `user ${user.name} on >${user.password} ~* &* +@all`,
          'user default off',
          `masteruser ${user.name}`,
          `masterauth ${user.password}`,
        ]),
    ...(tls && files !== undefined
      ? [
          `tls-cert-file ${files.certFile}`,
          `tls-key-file ${files.keyFile}`,
          `tls-ca-cert-file ${files.caFile}`,
          ...['tls-replication yes', 'tls-cluster yes', 'tls-auth-clients yes'],
        ]
      : []),
  ];
}

function clusterLines(downAfterMs: number): string[] {
  return [
    'cluster-enabled yes',
    `cluster-node-timeout ${downAfterMs}`,
    // One shard away: the others go on.
    'cluster-require-full-coverage no',
    'cluster-allow-replica-migration no',
  ];
}

function watching(primary: string, { sentinels, user, downAfterMs = 1000 }: Wanted): string[] {
  return [
    `sentinel monitor ${PRIMARY_NAME} ${primary} ${PORT} ${Math.floor(sentinels / 2) + 1}`,
    `sentinel down-after-milliseconds ${PRIMARY_NAME} ${downAfterMs}`,
    `sentinel failover-timeout ${PRIMARY_NAME} 4000`,
    `sentinel parallel-syncs ${PRIMARY_NAME} 2`,
    ...(user === undefined
      ? []
      : [
          `sentinel auth-user ${PRIMARY_NAME} ${user.name}`,
          `sentinel auth-pass ${PRIMARY_NAME} ${user.password}`,
        ]),
  ];
}

interface TlsFiles {
  readonly caFile: string;
  readonly certFile: string;
  readonly keyFile: string;
}

async function certificates(directory: string, servers: readonly string[], net: string, sentinels: number) {
  const authority = await createAuthority({ file: (name) => path.join(directory, name) });
  const watchers = Array.from({ length: sentinels }, (_, at) => `${net}.${101 + at}`);
  const [server, client] = await Promise.all([
    authority.issue('redis.example', [...servers, ...watchers]),
    authority.issue('mooring'),
  ]);
  const caFile = authority.certFile;
  return { server: { caFile, ...server }, client: { caFile, ...client } };
}

/** Slots in equal ranges to the first servers, each of the others a replica of one of them. */
async function joinCluster(servers: readonly RedisProcess[], primaries: number): Promise<void> {
  const [first, ...others] = servers as [RedisProcess, ...RedisProcess[]];
  for (const one of others) await first.call('CLUSTER', 'MEET', one.address, PORT);
  for (let at = 0; at < primaries; at += 1) {
    const from = Math.floor((at * SLOTS) / primaries);
    const to = Math.floor(((at + 1) * SLOTS) / primaries) - 1;
    await servers[at]!.call('CLUSTER', 'ADDSLOTSRANGE', from, to);
    // Epochs that differ from the start: nothing to be agreed on first.
    await servers[at]!.call('CLUSTER', 'SET-CONFIG-EPOCH', at + 1).catch(() => undefined);
  }
  await Promise.all(
    servers.slice(primaries).map(async (one, at) => {
      const of = String(await servers[at]!.call('CLUSTER', 'MYID'));
      await until(`${one.name} knows its primary`, async () => {
        return (await one.call('CLUSTER', 'REPLICATE', of)) === 'OK';
      });
    }),
  );
}

async function clusterPrimary(
  servers: readonly RedisProcess[],
  key: string,
): Promise<RedisProcess | undefined> {
  const up = servers.filter((one) => one.running);
  const slot = Number(await up[0]!.call('CLUSTER', 'KEYSLOT', key));
  // Each primary claims what it believes to be its own; the highest epoch is what counts.
  let best: { epoch: number; server: RedisProcess } | undefined;
  for (const one of up) {
    const nodes = String(await one.call('CLUSTER', 'NODES').catch(() => ''));
    const self = nodes.split('\n').find((line) => line.includes('myself'));
    const [, , flags = '', , , , epoch, , ...ranges] = self?.split(' ') ?? [];
    if (!flags.includes('master')) continue;
    const owns = ranges.some((range) => {
      const [from, to = from] = range.split('-').map(Number);
      return from! <= slot && slot <= to!;
    });
    if (owns && (best === undefined || Number(epoch) > best.epoch))
      best = { epoch: Number(epoch), server: one };
  }
  return best?.server;
}

async function heldForPrimary(
  servers: readonly RedisProcess[],
  sentinels: readonly RedisProcess[],
): Promise<RedisProcess | undefined> {
  if (sentinels.length === 0) return servers[0];
  const said = await Promise.all(
    sentinels
      .filter((one) => one.running)
      .map(async (one) => {
        const answer = await one.call('SENTINEL', 'GET-MASTER-ADDR-BY-NAME', PRIMARY_NAME).catch(() => null);
        return (answer as string[] | null)?.[0];
      }),
  );
  const found = servers.find(
    (one) => said.filter((address) => address === one.address).length * 2 > sentinels.length,
  );
  if (found?.running !== true) return undefined;
  const role = (await found.call('ROLE')) as unknown[];
  return role[0] === 'master' ? found : undefined;
}

async function settled(servers: readonly RedisProcess[], sentinels: readonly RedisProcess[], wanted: Wanted) {
  if (!wanted.cluster) {
    // One that was cut off is told some ten seconds after it is back.
    await until('one primary', async () => {
      const roles = await Promise.all(servers.map((one) => one.call('ROLE')));
      return roles.filter((role) => (role as unknown[])[0] === 'master').length === 1;
    });
  }
  for (const one of servers) {
    await until(`${one.name} is in step`, async () => {
      const role = (await one.call('ROLE')) as unknown[];
      return role[0] === 'master' || role[3] === 'connected';
    });
    if (!wanted.cluster) continue;
    await until(`${one.name} sees the whole cluster`, async () => {
      const info = String(await one.call('CLUSTER', 'INFO'));
      const nodes = String(await one.call('CLUSTER', 'NODES'))
        .trim()
        .split('\n');
      const whole =
        nodes.length === servers.length && !nodes.some((line) => /fail|handshake|noaddr/.test(line));
      const replicas = nodes.filter((line) => line.includes('slave')).length;
      const enough = replicas === servers.length - (wanted.primaries ?? servers.length);
      return info.includes('cluster_state:ok') && whole && enough;
    });
  }
  for (const one of sentinels) {
    await until(`${one.name} sees everyone`, async () => {
      const flat = (await one.call('SENTINEL', 'MASTER', PRIMARY_NAME)) as string[];
      const of = (field: string) => flat[flat.indexOf(field) + 1];
      return (
        of('flags') === 'master' &&
        Number(of('num-slaves')) === servers.length - 1 &&
        Number(of('num-other-sentinels')) === sentinels.length - 1
      );
    });
  }
}
