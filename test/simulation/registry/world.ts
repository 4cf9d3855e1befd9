import type { Redis } from 'ioredis';
import type { EngineCommand } from '../../../src/datapath/engine-api.ts';
import type { LeaseEvent } from '../../../src/protocol/lease.ts';
import type { RelayPlane } from '../../../src/protocol/relay-plane.ts';
import type { Commands, Connection } from '../../../src/registry/connection.ts';
import { refusalIn } from '../../../src/registry/refusals.ts';
import type { AnchorDeclaration, Registry, RelayAnnouncement } from '../../../src/registry/registry.ts';
import { silent } from '../../integration/registry/real-redis.ts';
import { Chance } from './chance.ts';
import { DataPath } from './data-path.ts';
import { type DeviceActor, startDevice } from './device-actor.ts';
import { Ledger } from './ledger.ts';
import { CALM, Network, type Weather } from './network.ts';
import type { Product } from './product.ts';
import { simulatedClient } from './redis-client.ts';
import { type RelayActor, startRelay } from './relay-actor.ts';
import { Host, Process, Scheduler } from './scheduler.ts';
import { type Execution, Servers, type Wire } from './servers.ts';
import { QUOTA, type SignallingActor, startSignalling } from './signalling-actor.ts';

/** Longer than any claim with a standby and than a deposed primary may go on answering. */
export const QUARANTINE_MS = 1_700;
/** The longest that somebody may still hear a deposed primary. */
export const MOST_DECEIVED_MS = 900;
export const COOLING_MS = 2_000;
const PLANE_TIMEOUT_MS = 600;
const DOOR_TIMEOUT_MS = 2_500;
const WAKES_LOST = 300;

export interface Shape {
  /** Decides everything that is not in the schedule. */
  readonly seed: number;
  readonly relays: number;
  readonly anchors: number;
  readonly devices: number;
  readonly sharing: 'whole' | 'shared';
  /** Anchors and devices on servers of their own; otherwise one server holds all. */
  readonly cluster: boolean;
  readonly weather: Weather;
  /** Milliseconds of each relay's clock in a millisecond of true time. */
  readonly rates: readonly number[];
}

/** Commands after which an anchor may have said something new. */
const QUIET: ReadonlySet<string> = new Set([
  'renew',
  'describe',
  'snapshot',
  'read_events',
  'held_on',
  'held_by',
  'intend',
  'confirm',
  'forget',
  'abandon',
  'put_hint',
  'appoint',
  'declare',
]);

/** Addresses of an anchor: few, so that they are used again. */
export const CAPACITY = 3;

/** What worlds are made on. */
export interface Ground {
  readonly wire: Wire;
  /** The first database of this world. */
  readonly first: number;
  readonly product: Product;
  readonly commands: Commands;
}

export interface Loss {
  readonly server: string;
  readonly cutMs: number;
  readonly atMs: number;
  readonly events: number;
}

/** Relays, doors and devices around real scripts in a real Redis, on one scheduler. */
export class World {
  readonly scheduler = new Scheduler();
  readonly chance: Chance;
  readonly network: Network;
  readonly servers: Servers;
  readonly ledger: Ledger;
  readonly relays = new Map<string, RelayActor>();
  readonly devices: DeviceActor[] = [];
  readonly anchors: readonly string[];
  readonly hosts = new Map<string, Host>();
  readonly counts = { restarts: 0, hostLosses: 0, failOvers: 0, lostFailOvers: 0, refusedInQuarantine: 0 };
  readonly losses: Loss[] = [];
  /** When a relay lost what it had in memory. */
  readonly forgot: { readonly relay: string; readonly atMs: number }[] = [];
  readonly freed = new Set<string>();
  private readonly doors: SignallingActor[] = [];
  private readonly paths = new Map<string, DataPath>();
  private readonly shape: Shape;
  private readonly product: Product;
  private readonly commands: Commands;
  private readonly cutMs = new Map<string, number>();
  private readonly watchers = new Map<string, Set<() => void>>();
  private readonly announced = new Map<string, { announcement: RelayAnnouncement; untilMs: number }>();
  private readonly audit: Registry;
  /** Where the audit looks, and under which time: a database, and how far ahead of now. */
  private auditAt = { database: -1, aheadMs: 0 };
  private boots = 0;
  /** With `MOORING_TRACE`: what happened, to be read when a rule broke. */
  private readonly tells = process.env.MOORING_TRACE !== undefined;
  private failure: unknown;

  constructor({ wire, first, product, commands }: Ground, shape: Shape) {
    this.shape = shape;
    this.product = product;
    this.commands = commands;
    this.chance = new Chance(shape.seed);
    this.network = new Network(this.scheduler, this.chance, shape.weather);
    this.servers = new Servers(wire, first, commands, this.scheduler, this.chance, shape.cluster ? 4 : 1);
    this.anchors = Array.from({ length: shape.anchors }, (_, at) => `a${at}`);
    const ids = Array.from({ length: shape.relays }, (_, at) => `r${at}`);
    ids.forEach((id, at) => {
      const host = new Host(this.scheduler, id, shape.rates[at] ?? 1, 10_000 * (at + 1));
      this.hosts.set(id, host);
      this.paths.set(id, new DataPath(host, (path, command) => this.commanded(path, command)));
    });
    for (const id of ['s0', 's1']) this.hosts.set(id, new Host(this.scheduler, id, 1, 5_000));
    const paths = [...this.paths.values()];
    this.ledger = new Ledger(paths, () => this.scheduler.nowMs, COOLING_MS, QUOTA);
    this.scheduler.check = () => {
      if (this.failure !== undefined) throw this.failure;
    };
    this.audit = product.createStore(this.auditConnection(), silent, async () => undefined);
  }

  tell(line: () => string): void {
    if (this.tells) console.log(`${this.scheduler.nowMs.toFixed(1).padStart(8)}  ${line()}`);
  }

  get relayIds(): readonly string[] {
    return [...this.paths.keys()];
  }

  /** Declares the anchors and starts everybody. */
  async begin(): Promise<void> {
    await this.servers.clear();
    this.seeCurrent();
    for (const [at, id] of this.anchors.entries()) {
      this.auditAt = { database: this.serverOf(id).current, aheadMs: 0 };
      await this.audit.declareAnchor(this.declaration(id, at));
    }
    for (const id of this.relayIds) this.start(id);
    for (const id of ['s0', 's1']) this.openDoor(id);
    for (let at = 0; at < this.shape.devices; at += 1) this.addDevice(at);
  }

  private declaration(id: string, at: number): AnchorDeclaration {
    const shared = this.shape.sharing === 'shared';
    return {
      id,
      pool: 'p',
      sharing: this.shape.sharing,
      prefixes: shared
        ? [`192.0.2.${16 * at + 9}/32`]
        : [`192.0.2.${16 * at + 9}/32`, `192.0.2.${16 * at + 10}/31`],
      ...(shared ? { portBlock: 16_384 } : {}),
      endpoints: [`198.51.100.${at + 1}`],
      coolingMs: COOLING_MS,
      home: `r${at % this.shape.relays}`,
    };
  }

  private serverOf(anchor: string) {
    return this.servers.of(`{a:${anchor}}`);
  }

  private seeCurrent(): void {
    this.ledger.current = new Map(this.anchors.map((id) => [id, this.serverOf(id).current]));
  }

  /** A new start of a relay. `pinned`: what forwards goes on without the process. */
  start(id: string, { pinned = false } = {}): void {
    this.boots += 1;
    const boot = this.boots.toString(16).padStart(16, '0');
    const former = this.relays.get(id);
    if (former !== undefined) {
      former.stop();
      this.counts.restarts += 1;
      this.forgot.push({ relay: id, atMs: this.scheduler.nowMs });
    }
    const path = this.paths.get(id)!;
    if (pinned) path.forget();
    else path.clear();
    const process = new Process(this.scheduler, this.hosts.get(id)!);
    const registry = this.registryFor(process);
    const announcement = { id, boot, planeUrl: 'x', site: 's' };
    this.relays.set(
      id,
      startRelay({
        ...{ product: this.product, id, boot, process, path, registry, announcement },
        first: former === undefined,
        anchors: this.anchors,
        planeFor: async (other) => this.planeOf(other, process),
        candidates: async () => (await registry.relays()).filter((one) => one.id !== id),
      }),
    );
  }

  /** The host is gone: nothing computes or forwards there until it is started again. */
  lose(id: string): void {
    const relay = this.relays.get(id)!;
    if (!relay.process.alive) return;
    relay.stop();
    this.paths.get(id)!.clear();
    this.counts.hostLosses += 1;
    this.forgot.push({ relay: id, atMs: this.scheduler.nowMs });
  }

  private openDoor(id: string): void {
    const process = new Process(this.scheduler, this.hosts.get(id)!);
    this.doors.push(
      startSignalling({
        ...{ product: this.product, process, registry: this.registryFor(process), chance: this.chance },
        kind: this.shape.sharing === 'whole' ? 'rsa-ip' : 'rsipsec',
        planeFor: async (relay) => this.planeOf(relay, process),
      }),
    );
  }

  private addDevice(at: number): void {
    const host = new Host(this.scheduler, `d${at}`, 1, 1_000);
    const process = new Process(this.scheduler, host);
    this.devices.push(
      startDevice({
        ...{ device: { tenant: 't', id: `d${at}` }, process, doors: this.doors.length },
        ask: (door, request) => {
          const asked = this.doors[door]!;
          return this.network.call(
            process,
            () => asked.process,
            asked.process.host.id,
            () => request(asked),
            this.callOptions(DOOR_TIMEOUT_MS),
          );
        },
        onAcknowledged: (actor, lease, request) => {
          const answers = actor.answers.get(request)!;
          const now = new Set([...this.ledger.currentLeases()].map((known) => known.lease));
          const live = [...answers].filter((id) => now.has(id) && !this.isOver(id));
          if (live.length > 1 && !this.ledger.indexForgot)
            this.fail(`request ${request} was answered with ${live.join(' and ')}`);
          void lease;
        },
        onFreed: (lease) => this.freed.add(lease),
      }),
    );
  }

  private callOptions(timeoutMs: number) {
    const { MooringError } = this.product;
    return {
      timeoutMs,
      failure: (why: string) => new MooringError('ERR_MOORING_OWNER_UNREACHABLE', why, { temporary: true }),
    };
  }

  /** The plane of a relay as another process reaches it. */
  private planeOf(relay: string, from: Process): RelayPlane {
    const options = this.callOptions(PLANE_TIMEOUT_MS);
    const there = () => {
      const process = this.relays.get(relay)?.process;
      return process?.alive === true ? process : undefined;
    };
    const call =
      <P, R>(name: keyof RelayPlane) =>
      (params: P): Promise<R> =>
        this.network.call(
          from,
          there,
          relay,
          async () => {
            const actor = this.relays.get(relay)!;
            const result = await (actor.node.plane[name] as unknown as (all: P) => Promise<R>)(params);
            if (name === 'install')
              this.installed(actor, (params as { lease: { id: string; anchor: string } }).lease);
            return result;
          },
          options,
        );
    return {
      install: call('install'),
      apply: call('apply'),
      rebind: call('rebind'),
      prepare: call('prepare'),
      adopt: call('adopt'),
      promise: call('promise'),
    };
  }

  /** The owner says that it has installed a lease. */
  private installed(actor: RelayActor, { id, anchor }: { id: string; anchor: string }): void {
    const held = this.paths.get(actor.id)!.anchors.get(anchor);
    if (held !== undefined && !held.leases.has(id) && !this.isOver(id)) {
      this.fail(`${actor.id} acknowledges ${id} without having it`);
    }
    const state = this.ledger.page(anchor, this.serverOf(anchor).current).leases.get(id)?.state;
    if (state === 'pending') {
      const other = this.serverOf(anchor).deceived.size > 0 || this.counts.failOvers > 0;
      if (!other) this.fail(`${actor.id} acknowledges ${id}, which is pending`);
    }
  }

  private isOver(lease: string): boolean {
    return (this.ledger.expiryOf(lease) ?? 0) <= this.scheduler.nowMs + 1_000;
  }

  private registryFor(process: Process): Registry {
    const client = simulatedClient(process, this.network, this.servers, (done) => this.executed(done));
    const pace = {
      nowMs: process.nowMs,
      wait: (ms: number) => new Promise<void>((resolve) => process.after(ms, resolve)),
    };
    const connection = this.product.commandConnection(client, this.commands, QUARANTINE_MS, pace);
    const store = this.product.createStore(connection, silent, async () => undefined);
    return {
      ...store,
      watch: async (anchor, wake) => {
        const all = this.watchers.get(anchor) ?? new Set();
        this.watchers.set(anchor, all);
        const heard = () => this.network.send('wakes', process.host.id, process.guarded(wake));
        all.add(heard);
        return async () => void all.delete(heard);
      },
      announceRelay: (announcement, ttlMs) =>
        this.hinted(process, () => {
          this.announced.set(announcement.id, { announcement, untilMs: this.scheduler.nowMs + ttlMs });
        }),
      relay: (id) => this.hinted(process, () => this.living().find((one) => one.id === id) ?? null),
      relays: () => this.hinted(process, () => this.living()),
    };
  }

  private living(): readonly RelayAnnouncement[] {
    return [...this.announced.values()]
      .filter(({ untilMs }) => untilMs > this.scheduler.nowMs)
      .map(({ announcement }) => announcement);
  }

  /** What is only a hint does not go through Redis here, but as far. */
  private hinted<T>(process: Process, read: () => T): Promise<T> {
    const server = this.servers.list[0]!.id;
    return new Promise((resolve, reject) => {
      const cancel = process.after(1_000, () =>
        reject(
          new this.product.MooringError('ERR_MOORING_REGISTRY_UNAVAILABLE', 'no answer', { temporary: true }),
        ),
      );
      this.network.send(process.host.id, server, () => {
        const value = read();
        this.network.send(
          server,
          process.host.id,
          process.guarded(() => {
            cancel();
            resolve(value);
          }),
        );
      });
    });
  }

  private fail(what: string): void {
    this.attempt(() => this.ledger.broken(what));
  }

  private attempt(judge: () => void): void {
    try {
      judge();
    } catch (error) {
      this.failure ??= error;
    }
  }

  private commanded(path: DataPath, command: EngineCommand): void {
    this.tell(
      () =>
        `${path.host.id} engine ${JSON.stringify(command, (_, value) => (typeof value === 'bigint' ? String(value) : value)).slice(0, 160)}`,
    );
    this.attempt(() => {
      switch (command.op) {
        case 'anchor':
          this.ledger.begins(command.anchor.id, path.host.id, command.anchor.epoch);
          this.ledger.oneForwarder(command.anchor.id);
          return;
        case 'deadline':
          this.ledger.oneForwarder(command.anchor);
          return;
        case 'lease':
          this.ledger.installed(path, command.lease, command.untilMs);
          return;
        default:
      }
    });
  }

  /** A server has run a script: what has it said? */
  private async executed({ host, command, keys, args, answer, database }: Execution): Promise<void> {
    this.tell(
      () =>
        `${host} → ${database} ${command} ${/\{.:[^}]*\}/.exec(keys[0]!)?.[0]} ${args.join(' ').slice(0, 90)}: ${JSON.stringify(answer).slice(0, 90)}`,
    );
    const anchor = /\{a:([^}]*)\}/.exec(keys[0]!)?.[1];
    if (anchor === undefined || QUIET.has(command)) return;
    if (typeof answer === 'number' && answer < 0) return;
    const request = command === 'grant' ? args[0]!.split(':')[0] : undefined;
    await this.readEvents(anchor, database, command, request);
    for (const wake of this.watchers.get(anchor) ?? []) if (!this.chance.permille(WAKES_LOST)) wake();
  }

  private async readEvents(
    anchor: string,
    database: number,
    command: string,
    request?: string,
  ): Promise<void> {
    this.auditAt = { database, aheadMs: 0 };
    const { lastId } = this.ledger.page(anchor, database);
    const entries = await this.auditEvents(anchor, lastId);
    this.tell(
      () => `   audit ${database} after ${lastId}: ${entries.map(({ fence, type }) => `${fence} ${type}`)}`,
    );
    this.attempt(() => {
      for (const event of entries) this.ledger.heard(anchor, database, event, command, request);
    });
  }

  private async auditEvents(anchor: string, lastId: string): Promise<readonly LeaseEvent[]> {
    const page = await this.audit.events(anchor, lastId, 1_000).catch(() => undefined);
    if (page === undefined) return [];
    if (!page.reload) return page.events;
    // The counter has jumped with the epoch: go back from its end to where it landed.
    const [epoch, last] = (await this.audit.snapshot(anchor)).lastId.split('-').map(Number) as [
      number,
      number,
    ];
    let found: readonly LeaseEvent[] = [];
    for (let counter = last - 1; ; counter -= 1) {
      const after = await this.audit.events(anchor, `${epoch}-${counter}`, 1_000);
      if (after.reload) return found;
      found = after.events;
    }
  }

  /** Asks a database itself, at once. */
  private auditConnection(): Connection {
    const unused = undefined as unknown as Redis;
    return {
      redis: unused,
      quarantineMs: QUARANTINE_MS,
      run: async (command, keys, args) => {
        const { name } = this.commands[command];
        const isAnchor = keys[0]!.includes('{a:');
        const database = isAnchor ? this.auditAt.database : this.servers.of(keys[0]!).current;
        const text = args.map(String);
        const answer = await this.servers.execute(name, keys, text, database, this.auditAt.aheadMs);
        const refused = refusalIn(answer);
        return refused === undefined ? (answer as never) : { refused };
      },
      plain: async (send) => {
        const direct = new Proxy({} as Redis, {
          get:
            (_, name) =>
            (...all: unknown[]) =>
              this.servers.plain(String(name), all, this.servers.of(String(all[0])).current),
        });
        return send(direct);
      },
    };
  }

  async cutReplica(at: number): Promise<void> {
    const server = this.servers.list[at % this.servers.list.length]!;
    if (!this.servers.mayFailOver(server) || this.cutMs.has(server.id)) return;
    await this.servers.cutReplica(server);
    this.cutMs.set(server.id, this.scheduler.nowMs);
    for (const id of this.anchors) {
      if (this.serverOf(id) === server) this.ledger.copy(id, server.current, server.current + 1);
    }
  }

  /** The replica becomes the primary, with what it has heard until it was cut off (now, if it was not). */
  async failOver(at: number, deceived: readonly string[], forMs: number, skewMs: number): Promise<void> {
    const server = this.servers.list[at % this.servers.list.length]!;
    const cutMs = this.cutMs.get(server.id);
    if (cutMs === undefined) return;
    this.cutMs.delete(server.id);
    this.counts.failOvers += 1;
    if (server === this.servers.of('{d:}')) this.ledger.indexForgot = true;
    let lost = 0;
    for (const id of this.anchors) {
      if (this.serverOf(id) !== server) continue;
      const counter = (database: number) => Number(this.ledger.page(id, database).lastId.split('-')[1]);
      lost += counter(server.current) - counter(server.current + 1);
    }
    if (lost > 0) this.counts.lostFailOvers += 1;
    this.losses.push({ server: server.id, cutMs, atMs: this.scheduler.nowMs, events: lost });
    this.servers.failOver(server, deceived, forMs, skewMs);
    this.seeCurrent();
  }

  /** Everything works again, and every relay runs. */
  heal(): void {
    this.network.weather = CALM;
    for (const link of [...this.network.cuts.keys()]) this.network.mend(link);
    for (const host of this.hosts.values()) host.resume();
    for (const server of this.servers.list) this.servers.goOn(server);
    for (const [id, { process }] of this.relays) if (!process.alive) this.start(id);
  }

  /** What does not hold yet that must come to hold once everything works. */
  unsettled(): string | undefined {
    for (const anchor of this.anchors) {
      if (!this.ledger.page(anchor, this.serverOf(anchor).current).settled)
        return `${anchor} stays in quarantine`;
      const forwarding = [...this.paths.values()].filter((path) => path.forwards(anchor));
      const owner = [...this.relays.values()].find((relay) => relay.ownership.owned().has(anchor));
      if (forwarding.length !== 1 || owner?.id !== forwarding[0]?.host.id)
        return `nobody forwards for ${anchor}`;
    }
    for (const { device, believed, process } of this.devices) {
      for (const { lease, anchor, untilMs } of believed.values()) {
        if (untilMs < process.nowMs() + 200 || this.freed.has(lease)) continue;
        if ([...this.paths.values()].some((path) => path.forwardsLease(anchor, lease))) continue;
        if (this.hasNoWitness(lease, anchor)) continue;
        return `${lease} of ${device.id}, acknowledged, is not forwarded`;
      }
    }
    return undefined;
  }

  /** Nobody who lives, and no server that answers, knows what a fail-over lost of the anchor. */
  private hasNoWitness(lease: string, anchor: string): boolean {
    const server = this.serverOf(anchor).id;
    void lease;
    return this.losses.some((loss) => {
      if (loss.server !== server) return false;
      const forgotten = this.ledger.forgottenAtMs.get(anchor)?.some((atMs) => atMs >= loss.atMs);
      return forgotten === true || this.forgot.some(({ atMs }) => atMs >= loss.cutMs);
    });
  }

  stop(): void {
    for (const relay of this.relays.values()) relay.stop();
  }

  /**
   * Long after everything has ended, every resource can be leased to somebody, once.
   */
  async everythingComesBack(): Promise<void> {
    for (const anchor of this.anchors) {
      const database = this.serverOf(anchor).current;
      const aheadMs = 3_600_000 + 10 * COOLING_MS;
      this.auditAt = { database, aheadMs };
      let epoch = 0n;
      const claim = async () => {
        ({ epoch } = await this.audit.claim(anchor, 'operator', 'f'.repeat(16), 600_000, true));
      };
      await claim().catch(() => undefined);
      // A quarantine that nobody had met yet begins with that.
      if (epoch === 0n) {
        this.auditAt = { database, aheadMs: aheadMs + 2 * QUARANTINE_MS };
        await claim();
      }
      const { leases } = await this.audit.snapshot(anchor);
      const swept = await this.audit.sweep(anchor, epoch, 1_000);
      if (swept.ended.length !== leases.length) this.ledger.broken(`a sweep of ${anchor} leaves leases`);
      this.auditAt = { database, aheadMs: this.auditAt.aheadMs + 2 * COOLING_MS };
      const given = new Set<string>();
      let refusal = '';
      for (;;) {
        const device = { tenant: 't', id: `stranger-${anchor}-${given.size}` };
        const granted = await this.audit
          .grant({
            ...{ pool: 'p', anchor, device, thumbprint: 'k'.repeat(43), leaseMs: 60_000, quota: 9 },
            kind: this.shape.sharing === 'whole' ? 'rsa-ip' : 'rsipsec',
            requestId: this.chance.octets(16).toString('hex'),
          })
          .catch((error: Error) => {
            refusal = error.message;
          });
        if (granted === undefined) break;
        given.add(`${granted.lease.address} ${granted.lease.ports?.first ?? ''}`);
      }
      if (given.size !== CAPACITY)
        this.ledger.broken(`${given.size} of ${CAPACITY} resources of ${anchor} come back: ${refusal}`);
    }
  }
}
