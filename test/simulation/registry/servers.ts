import type { Writable } from 'node:stream';
import type { Redis } from 'ioredis';
import { assembleCommands } from '../../../infra/build/lua.ts';
import type { Commands } from '../../../src/registry/connection.ts';
import type { Chance } from './chance.ts';
import type { Scheduler } from './scheduler.ts';

/** Databases that one server may go through by failing over, the first included. */
const INCARNATIONS = 4;
export const MOST_FAIL_OVERS = INCARNATIONS - 1;
const MOST_SERVERS = 4;
/** As many as a world may use. */
export const DATABASES = MOST_SERVERS * INCARNATIONS;
/** The registry's clock at the beginning of a schedule. */
const EPOCH_MS = 1_700_000_000_000;
/** Pending grants are taken back after so long here; the scripts say 10 s. */
export const PENDING_MS = 1_500;

const PRELUDE = `if not ARGV.nowMs then
ARGV.server = table.remove(ARGV)
ARGV.nowMs = tonumber(table.remove(ARGV))
redis.call('SELECT', table.remove(ARGV))
end`;

/** The scripts on a database, clock and server that each call names behind its arguments; perhaps with a fault. */
export function simulatedCommands(mutate?: (command: string, lua: string) => string): Commands {
  let pendings = 0;
  const { commands } = assembleCommands({
    replace: { now: `${PRELUDE}\nlocal now = ARGV.nowMs`, server: `${PRELUDE}\nlocal server = ARGV.server` },
    mutate(command, lua) {
      const shorter = lua.replace(/(PENDING_MS = )10000\b/g, (_, name) => {
        pendings += 1;
        return `${name}${PENDING_MS}`;
      });
      return mutate?.(command, shorter) ?? shorter;
    },
  });
  if (pendings === 0) throw new Error('no script says how long a grant may stay pending');
  return commands as unknown as Commands;
}

/** A connection to the real Redis that sends what comes together in one go: several worlds share it. */
export class Wire {
  readonly redis: Redis;
  private gathering = false;

  constructor(redis: Redis) {
    this.redis = redis;
  }

  /** What is sent from here on leaves when everybody has had a turn. */
  gather(): void {
    if (this.gathering) return;
    const { stream } = this.redis as unknown as { stream: Writable | undefined };
    if (stream === undefined) return;
    this.gathering = true;
    stream.cork();
    setImmediate(() => {
      this.gathering = false;
      stream.uncork();
    });
  }
}

const CLEAR = `for database = ARGV[1], ARGV[2] do
redis.call('SELECT', database)
redis.call('FLUSHDB')
end`;

const COPY = `redis.call('SELECT', ARGV[2])
redis.call('FLUSHDB')
redis.call('SELECT', ARGV[1])
for _, key in ipairs(redis.call('KEYS', '*')) do
redis.call('COPY', key, key, 'DB', ARGV[2], 'REPLACE')
end`;

interface Server {
  readonly id: string;
  /** Which database answers. */
  current: number;
  /** Milliseconds by which the clock of each incarnation is wrong. */
  readonly skewMs: number[];
  stalledUntilMs: number;
  readonly waiting: (() => Promise<void>)[];
  /** Host → until when it still speaks to the primary before. */
  readonly deceived: Map<string, number>;
}

export interface Execution {
  readonly host: string;
  readonly command: string;
  readonly keys: readonly string[];
  readonly args: readonly string[];
  readonly answer: unknown;
  readonly database: number;
}

/**
 * Redis servers that hold different slots, each with a replica that hears everything until it is cut off. All of them
 * live in one real Redis: an incarnation of a server is a database.
 */
export class Servers {
  readonly list: readonly Server[];
  private readonly wire: Wire;
  private readonly first: number;
  private readonly redis: Redis;
  private readonly scheduler: Scheduler;
  private readonly chance: Chance;
  /** Anchor → free slots, as last heard of. */
  private readonly room = new Map<string, number>();
  private readonly byKey = new Map<string, Server>();
  private readonly names = new Map<string, string>();

  /** @param first the first of the databases that are this world's, as many as DATABASES */
  constructor(
    wire: Wire,
    first: number,
    commands: Commands,
    scheduler: Scheduler,
    chance: Chance,
    count: number,
  ) {
    const { redis } = wire;
    this.wire = wire;
    this.first = first;
    this.redis = redis;
    this.scheduler = scheduler;
    this.chance = chance;
    for (const [command, { name, keys, lua }] of Object.entries(commands)) {
      this.names.set(name, command);
      if (!(name in redis)) redis.defineCommand(name, { numberOfKeys: keys, lua });
    }
    this.list = Array.from({ length: count }, (_, at) => ({
      id: `redis${at}`,
      current: first + at * INCARNATIONS,
      skewMs: [0],
      stalledUntilMs: 0,
      waiting: [],
      deceived: new Map(),
    }));
  }

  async clear(): Promise<void> {
    this.wire.gather();
    await this.redis.eval(CLEAR, 0, this.first, this.first + DATABASES - 1);
  }

  isScript(name: string): boolean {
    return this.names.has(name);
  }

  /** The server of a key: anchors are dealt out, devices and hints are each at one place. */
  of(key: string): Server {
    let server = this.byKey.get(key);
    if (server === undefined) {
      server = this.find(key);
      this.byKey.set(key, server);
    }
    return server;
  }

  private find(key: string): Server {
    const tag = /\{([a-z]):([^}]*)\}/.exec(key);
    const number =
      tag?.[1] === 'a' ? 1 + (tag[2]!.charCodeAt(tag[2]!.length - 1) % 2) : tag?.[1] === 'd' ? 3 : 0;
    return this.list[number % this.list.length]!;
  }

  timeMs(server: Server, database: number): number {
    return EPOCH_MS + Math.floor(this.scheduler.nowMs + server.skewMs[database % INCARNATIONS]!);
  }

  databaseFor(server: Server, host: string): number {
    const untilMs = server.deceived.get(host);
    return untilMs !== undefined && untilMs > this.scheduler.nowMs ? server.current - 1 : server.current;
  }

  /** Runs `work` when the server computes: what waited for it goes on in any order. */
  async serve(server: Server, work: () => Promise<void>): Promise<void> {
    if (server.stalledUntilMs > this.scheduler.nowMs) server.waiting.push(work);
    else await work();
  }

  stall(server: Server, forMs: number): void {
    server.stalledUntilMs = this.scheduler.nowMs + forMs;
    this.scheduler.after(forMs, () => this.goOn(server));
  }

  goOn(server: Server): void {
    server.stalledUntilMs = 0;
    while (server.waiting.length > 0) {
      const [work] = server.waiting.splice(this.chance.below(server.waiting.length), 1);
      this.scheduler.after(0, () => this.serve(server, work!));
    }
  }

  async execute(
    name: string,
    keys: readonly string[],
    args: readonly string[],
    database: number,
    aheadMs = 0,
  ): Promise<unknown> {
    const server = this.of(keys[0]!);
    this.wire.gather();
    const scripts = this.redis as unknown as Record<string, (...all: unknown[]) => Promise<unknown>>;
    return scripts[name]!(
      ...keys,
      ...args,
      database,
      this.timeMs(server, database) + aheadMs,
      `${server.id}/${database}`,
    );
  }

  commandOf(name: string): string {
    return this.names.get(name)!;
  }

  /** A command that is not one of the scripts. Which anchor of a pool has most room is kept here: only a hint. */
  async plain(name: string, args: readonly unknown[], database: number): Promise<unknown> {
    if (String(args[0]).includes('{p:')) {
      if (name === 'zadd') return this.noteRoom(args.slice(1).map(String));
      if (name === 'zrevrange')
        return [...this.room].sort((one, other) => other[1] - one[1]).map(([id]) => id);
    }
    const commands = this.redis as unknown as Record<string, (...all: unknown[]) => Promise<unknown>>;
    this.wire.gather();
    this.redis.select(database).catch(() => undefined);
    return commands[name]!(...args);
  }

  private noteRoom([condition, free, anchor]: readonly string[]): number {
    if (this.room.has(anchor!) === (condition === 'XX')) this.room.set(anchor!, Number(free));
    return 0;
  }

  /** What the server is told from here on does not reach its replica. */
  async cutReplica(server: Server): Promise<void> {
    this.wire.gather();
    await this.redis.eval(COPY, 0, server.current, server.current + 1);
  }

  mayFailOver(server: Server): boolean {
    return server.current % INCARNATIONS < MOST_FAIL_OVERS;
  }

  /** The replica answers from now on; `deceived` hear the old primary for a while. */
  failOver(server: Server, deceived: readonly string[], forMs: number, skewMs: number): void {
    server.current += 1;
    server.skewMs[server.current % INCARNATIONS] = skewMs;
    server.deceived.clear();
    for (const host of deceived) server.deceived.set(host, this.scheduler.nowMs + forMs);
  }
}
