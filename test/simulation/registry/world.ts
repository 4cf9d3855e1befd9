import type { MooringError } from '../../../src/protocol/errors.ts';
import type { RelayPlane } from '../../../src/protocol/relay-plane.ts';
import type { Commands } from '../../../src/registry/connection.ts';
import type { Registry } from '../../../src/registry/registry.ts';
import { silent } from '../../integration/registry/real-redis.ts';
import { Announcements } from './announcements.ts';
import { type Audit, createAudit } from './audit.ts';
import { Chance } from './chance.ts';
import { DataPath } from './data-path.ts';
import { type DeviceActor, startDevice } from './device-actor.ts';
import { Disk } from './disk.ts';
import { anchorIn, Judge, type Trace } from './judge.ts';
import { Ledger } from './ledger.ts';
import { CALM, linkOf, Network } from './network.ts';
import type { Product } from './product.ts';
import { simulatedClient } from './redis-client.ts';
import { type RelayActor, startRelay } from './relay-actor.ts';
import { Host, Process, Scheduler } from './scheduler.ts';
import { type Execution, type Scripts, Servers } from './servers.ts';
import { COOLING_MS, declarationOf, homeOf, QUARANTINE_MS, type Shape } from './shape.ts';
import { QUOTA, type SignallingActor, startSignalling } from './signalling-actor.ts';
import { tellerOf, untoldLeases } from './telling.ts';
import type { Wire } from './wire.ts';

const PLANE_TIMEOUT_MS = 600;
const DOOR_TIMEOUT_MS = 2_500;
const OPEN_TIMEOUT_MS = 300;
const WAKES_LOST = 300;
const RESTARTED_MS = 50;
const DECLARED_EVERY_MS = 400;

/** What worlds are made on. */
export interface Ground {
  readonly wire: Wire;
  /** The first database of this world. */
  readonly first: number;
  readonly product: Product;
  readonly commands: Commands;
  readonly scripts: Scripts;
  readonly trace?: Trace | undefined;
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
  readonly judge: Judge;
  readonly audit: Audit;
  readonly shape: Shape;
  readonly relays = new Map<string, RelayActor>();
  readonly devices: DeviceActor[] = [];
  readonly anchors: readonly string[];
  readonly hosts = new Map<string, Host>();
  readonly paths = new Map<string, DataPath>();
  private readonly disks = new Map<string, Disk>();
  readonly counts = {
    restarts: 0,
    hostLosses: 0,
    diskLosses: 0,
    carriedOn: 0,
    failOvers: 0,
    lostFailOvers: 0,
    emptied: 0,
  };
  readonly losses: Loss[] = [];
  /** When a relay lost what it had written down. */
  readonly forgot: { readonly relay: string; readonly atMs: number }[] = [];
  readonly freed = new Set<string>();
  /** Leases of which nobody told a registry that had been emptied. */
  readonly untold = new Set<string>();
  private readonly doors: SignallingActor[] = [];
  private readonly product: Product;
  private readonly commands: Commands;
  private readonly announcements: Announcements;
  private readonly cutMs = new Map<string, number>();
  private readonly watchers = new Map<string, Set<() => void>>();
  private boots = 0;

  constructor(ground: Ground, shape: Shape) {
    const { product, commands } = ground;
    this.shape = shape;
    this.product = product;
    this.commands = commands;
    this.chance = new Chance(shape.seed);
    this.network = new Network(this.scheduler, this.chance, shape.weather);
    this.servers = new Servers(ground, this.scheduler, this.chance, shape.cluster ? 4 : 1);
    this.anchors = Array.from({ length: shape.anchors }, (_, at) => `a${at}`);
    const ids = Array.from({ length: shape.relays }, (_, at) => `r${at}`);
    ids.forEach((id, at) => {
      const host = new Host(this.scheduler, id, shape.rates[at] ?? 1, 10_000 * (at + 1));
      this.hosts.set(id, host);
      this.disks.set(id, new Disk(this.scheduler, this.chance, host, () => this.closedError()));
      this.paths.set(id, new DataPath(host, (path, command) => this.judge.commanded(path, command)));
    });
    for (const id of ['s0', 's1']) this.hosts.set(id, new Host(this.scheduler, id, 1, 5_000));
    this.announcements = new Announcements(
      ...([this.scheduler, this.network, product, this.servers.list[0]!.id] as const),
    );
    this.ledger = new Ledger([...this.paths.values()], () => this.scheduler.nowMs, COOLING_MS, QUOTA);
    this.audit = createAudit(this.servers, this.chance, product, commands);
    this.judge = new Judge(this.scheduler, this.servers, this.ledger, ground.trace);
    this.scheduler.check = () => {
      if (this.judge.failure !== undefined) throw this.judge.failure;
    };
  }

  get relayIds(): readonly string[] {
    return [...this.paths.keys()];
  }

  /** Declares the anchors and starts everybody. */
  async begin(): Promise<void> {
    await this.servers.noteFirst();
    this.seeCurrent();
    await this.declare();
    for (const id of this.relayIds) this.start(id);
    for (const id of ['s0', 's1']) this.openDoor(id);
    for (let at = 0; at < this.shape.devices; at += 1) this.addDevice(at);
  }

  readonly serverOf = (anchor: string) => this.servers.of(`{a:${anchor}}`);

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
      this.ledger.startsAnew(id);
      this.counts.restarts += 1;
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
        disk: this.disks.get(id)!,
        anchors: this.anchors,
        isHome: (anchor) => homeOf(this.shape, this.anchors.indexOf(anchor)) === id,
        open: () => this.open(process),
        wallMs: () => this.scheduler.nowMs,
        isEmptied: () => this.counts.emptied > 0,
        onCarriedOn: () => {
          this.counts.carriedOn += 1;
        },
        planeFor: async (other) => this.planeOf(other, process),
        candidates: async () => (await registry.relays()).filter((one) => one.id !== id),
        onGivenUp: (error) => {
          // Its supervisor starts it again, and it says again what its file declares.
          if (this.isUndeclared(error)) this.scheduler.after(RESTARTED_MS, () => this.startAgain(id, boot));
          else this.judge.fail(`${id} gives up its start: ${error.message}`);
        },
      }),
    );
  }

  /** The host is gone: nothing computes or forwards there until it is started again, and what was not on the disk is lost. */
  lose(id: string, withDisk: boolean): void {
    const relay = this.relays.get(id)!;
    if (!relay.process.alive) return;
    relay.stop();
    this.paths.get(id)!.clear();
    this.counts.hostLosses += 1;
    if (withDisk) {
      this.counts.diskLosses += 1;
      this.forgot.push({ relay: id, atMs: this.scheduler.nowMs });
      this.disks.get(id)!.clear();
    } else this.disks.get(id)!.crash();
  }

  private isUndeclared(error: Error): boolean {
    return this.counts.emptied > 0 && (error as MooringError).code === 'ERR_MOORING_UNKNOWN_ANCHOR';
  }

  private startAgain(id: string, boot: string): void {
    const relay = this.relays.get(id)!;
    if (relay.boot === boot && relay.process.alive) this.start(id);
  }

  private open(process: Process): Promise<void> {
    const { id } = this.servers.list[0]!;
    return new Promise((resolve, reject) => {
      if (this.network.cuts.has(linkOf(process.host.id, id))) return reject(new Error('away'));
      process.after(OPEN_TIMEOUT_MS, () => reject(new Error('no answer')));
      this.network.send(process.host.id, id, async () => {
        if (this.counts.emptied > 0) await this.declare();
        this.network.send(id, process.host.id, process.guarded(resolve));
      });
    });
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
        onAcknowledged: (actor, _, request) => this.judge.acknowledged(actor, request),
        onFreed: (lease) => this.freed.add(lease),
      }),
    );
  }

  private closedError(): Error {
    const { MooringError } = this.product;
    return new MooringError('ERR_MOORING_NOT_OWNER', 'the journal is closed', { temporary: true });
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
            const { plane } = this.relays.get(relay)!.node;
            const result = await (plane[name] as unknown as (all: P) => Promise<R>)(params);
            if (name === 'install') {
              const { lease } = params as { lease: { id: string; anchor: string } };
              this.judge.installed(
                this.paths.get(relay)!,
                this.disks.get(relay)!,
                lease,
                this.counts.failOvers > 0,
              );
            }
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

  private registryFor(process: Process): Registry {
    const client = simulatedClient(process, this.network, this.servers, (done) => this.executed(done));
    const pace = {
      nowMs: process.nowMs,
      wait: (ms: number) => new Promise<void>((resolve) => process.after(ms, resolve)),
    };
    const connection = this.product.commandConnection(
      ...([
        client,
        this.commands,
        QUARANTINE_MS,
        pace,
        (octets: number) => this.chance.octets(octets),
      ] as const),
    );
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
      ...this.announcements.of(process),
    };
  }

  private executed(execution: Execution): void {
    if (!this.judge.executed(execution)) return;
    const anchor = anchorIn(execution.keys[0]!);
    for (const wake of this.watchers.get(anchor) ?? []) if (!this.chance.permille(WAKES_LOST)) wake();
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
  failOver(at: number, deceived: readonly string[], forMs: number, skewMs: number): void {
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
    if (lost > 0) {
      this.counts.lostFailOvers += 1;
      this.ledger.lostSome = true;
    }
    this.losses.push({ server: server.id, cutMs, atMs: this.scheduler.nowMs, events: lost });
    this.servers.failOver(server, deceived, forMs, skewMs);
    this.seeCurrent();
  }

  /** A server comes back with nothing; `declaredMs` later a node that runs on has said again what was declared. */
  empty(at: number, declaredMs: number): void {
    const server = this.servers.list[at % this.servers.list.length]!;
    if (!this.servers.mayFailOver(server) || this.cutMs.has(server.id)) return;
    this.counts.emptied += 1;
    // Who has something to say can say it: more than that no registry can count on.
    this.everybodyIsHeard();
    this.servers.empty(server);
    if (server === this.servers.of('{d:}')) this.ledger.indexForgot = true;
    const gone = this.anchors.filter((id) => this.serverOf(id) === server);
    if (gone.length > 0) this.ledger.lostSome = true;
    for (const id of gone) this.ledger.empty(id, server.current, tellerOf(this, id) !== undefined);
    this.losses.push({
      server: server.id,
      cutMs: this.scheduler.nowMs,
      atMs: this.scheduler.nowMs,
      events: 0,
    });
    for (const lease of untoldLeases(this)) this.untold.add(lease);
    this.seeCurrent();
    this.scheduler.after(declaredMs, () => this.watchPools());
  }

  /** Somewhere a node runs on, and says again and again what the registry has forgotten. */
  private async watchPools(): Promise<void> {
    await this.declare();
    this.scheduler.after(DECLARED_EVERY_MS, () => this.watchPools());
  }

  /** As the file says. An anchor that its owner has declared again stays as it is. */
  private async declare(): Promise<void> {
    for (const [at, id] of this.anchors.entries()) {
      this.audit.look(this.serverOf(id).current);
      if ((await this.audit.store.anchor(id)) !== null) continue;
      await this.audit.store.declareAnchor(declarationOf(this.shape, id, at));
    }
  }

  /** Everything works again, and every relay runs. */
  heal(): void {
    this.everybodyIsHeard();
    for (const [id, { process }] of this.relays) if (!process.alive) this.start(id);
  }

  private everybodyIsHeard(): void {
    this.network.weather = CALM;
    for (const link of [...this.network.cuts.keys()]) this.network.mend(link);
    for (const host of this.hosts.values()) host.resume();
    for (const server of this.servers.list) this.servers.goOn(server);
  }

  stop(): void {
    for (const relay of this.relays.values()) relay.stop();
  }
}
