import type { Commands } from '../../../src/registry/connection.ts';
import { indexName, serversKey } from '../../../src/registry/keys.ts';
import type { Chance } from './chance.ts';
import type { Scheduler } from './scheduler.ts';
import { CLEAR, COPY, canPublish, type Said } from './scripts.ts';
import type { Wire } from './wire.ts';

/** Databases that one server may go through by failing over, the first included. */
const INCARNATIONS = 4;
const MOST_FAIL_OVERS = INCARNATIONS - 1;
const MOST_SERVERS = 4;
/** As many as a world may use. */
export const DATABASES = MOST_SERVERS * INCARNATIONS;
/** The registry's clock at the beginning of a schedule. */
const EPOCH_MS = 1_700_000_000_000;

interface Script {
  readonly command: string;
  readonly sha: string;
  readonly canPublish: boolean;
}

/** The scripts as one Redis knows them, by the names that the product calls them. */
export type Scripts = ReadonlyMap<string, Script>;

export async function loadScripts(wire: Wire, commands: Commands): Promise<Scripts> {
  const all = Object.entries(commands).map(async ([command, { name, lua }]) => {
    const sha = await wire.load(lua);
    return [name, { command, sha, canPublish: canPublish(lua) }] as const;
  });
  return new Map(await Promise.all(all));
}

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

/** A stream entry that has been heard for the first time. */
export interface Entry {
  readonly fence: string;
  readonly text: string;
}

export interface Execution {
  readonly host: string;
  readonly command: string;
  readonly keys: readonly string[];
  readonly args: readonly string[];
  readonly answer: unknown;
  readonly database: number;
  /** By the clock of the server. */
  readonly nowMs: number;
  readonly entries: readonly Entry[];
}

/**
 * Redis servers that hold different slots, each with a replica that hears everything until it is cut off. All of them
 * live in one real Redis: an incarnation of a server is a database.
 */
export class Servers {
  readonly list: readonly Server[];
  private readonly wire: Wire;
  private readonly first: number;
  private readonly scripts: Scripts;
  private readonly scheduler: Scheduler;
  private readonly chance: Chance;
  /** Anchor → free slots, as last heard of. */
  private readonly room = new Map<string, number>();
  private readonly byKey = new Map<string, Server>();
  /** Database, anchor → the last fence that was heard there. */
  private readonly heard = new Map<number, Map<string, string>>();

  /** @param first the first of the databases that are this world's, as many as DATABASES */
  constructor(
    { wire, first, scripts }: { readonly wire: Wire; readonly first: number; readonly scripts: Scripts },
    scheduler: Scheduler,
    chance: Chance,
    count: number,
  ) {
    this.wire = wire;
    this.first = first;
    this.scripts = scripts;
    this.scheduler = scheduler;
    this.chance = chance;
    this.list = Array.from({ length: count }, (_, at) => ({
      id: `redis${at}`,
      current: first + at * INCARNATIONS,
      skewMs: [0],
      stalledUntilMs: 0,
      waiting: [],
      deceived: new Map(),
    }));
    for (const { current } of this.list) this.heard.set(current, new Map());
  }

  /** Leaves nothing behind. */
  async clear(): Promise<void> {
    const used = [...this.heard.keys()].map(String);
    await this.wire.run(await this.wire.load(CLEAR), [], used);
  }

  /** As a registry begins: none of these has lost anything. */
  async noteFirst(): Promise<void> {
    const names = this.list.flatMap((one) => [indexName(`${one.current - this.first}`), 0]);
    await this.plain('hset', [serversKey(), ...names], this.of(serversKey()).current);
  }

  isScript(name: string): boolean {
    return this.scripts.has(name);
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

  /** Runs the script of that name for `host`. */
  async execute(
    host: string,
    name: string,
    keys: readonly string[],
    args: readonly string[],
    database: number,
    aheadMs = 0,
  ): Promise<Execution> {
    const server = this.of(keys[0]!);
    const { command, sha, canPublish: publishes } = this.scripts.get(name)!;
    const incarnation = database - this.first;
    const skewMs = server.skewMs[incarnation % INCARNATIONS]!;
    const nowMs = EPOCH_MS + Math.floor(this.scheduler.nowMs + skewMs) + aheadMs;
    const heard = this.heard.get(database)!;
    const behind = [`${database}`, `${nowMs}`, `${incarnation}`, heard.get(keys[0]!) ?? '0-0'];
    const reply = await this.wire.run(sha, keys, [...args, ...behind]);
    const execution = { host, command, keys, args, database, nowMs };
    if (!publishes) return { ...execution, answer: reply, entries: [] };
    const [answer, all] = reply as Said;
    const entries = all.map(([fence, fields]) => ({ fence, text: fields[1]! }));
    if (entries.length > 0) heard.set(keys[0]!, entries.at(-1)!.fence);
    return { ...execution, answer, entries };
  }

  /** A command that is not one of the scripts. Which anchor of a pool has most room is kept here: only a hint. */
  async plain(name: string, args: readonly unknown[], database: number): Promise<unknown> {
    if (String(args[0]).includes('{p:')) {
      if (name === 'zadd') return this.noteRoom(args.slice(1).map(String));
      if (name === 'zrevrange')
        return [...this.room].sort((one, other) => other[1] - one[1]).map(([id]) => id);
    }
    const selected = this.wire.send('SELECT', String(database));
    const [, reply] = await Promise.all([selected, this.wire.send(name, ...args.map(String))]);
    return reply;
  }

  private noteRoom([condition, free, anchor]: readonly string[]): number {
    if (this.room.has(anchor!) === (condition === 'XX')) this.room.set(anchor!, Number(free));
    return 0;
  }

  /** What the server is told from here on does not reach its replica. */
  async cutReplica({ current }: Server): Promise<void> {
    this.heard.set(current + 1, new Map(this.heard.get(current)));
    await this.wire.run(await this.wire.load(COPY), [], [`${current}`, `${current + 1}`]);
  }

  mayFailOver(server: Server): boolean {
    return server.current % INCARNATIONS < MOST_FAIL_OVERS;
  }

  /** It begins anew, with nothing. */
  empty(server: Server): void {
    server.current += 1;
    server.skewMs[server.current % INCARNATIONS] = 0;
    server.deceived.clear();
    this.heard.set(server.current, new Map());
  }

  /** The replica answers from now on; `deceived` hear the old primary for a while. */
  failOver(server: Server, deceived: readonly string[], forMs: number, skewMs: number): void {
    server.current += 1;
    server.skewMs[server.current % INCARNATIONS] = skewMs;
    server.deceived.clear();
    for (const host of deceived) server.deceived.set(host, this.scheduler.nowMs + forMs);
  }
}
