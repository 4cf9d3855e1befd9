import type { EngineCommand } from '../../../src/datapath/engine-api.ts';
import type { Lease } from '../../../src/protocol/lease.ts';
import type { Audit } from './audit.ts';
import type { DataPath } from './data-path.ts';
import type { DeviceActor } from './device-actor.ts';
import type { Ledger } from './ledger.ts';
import type { Scheduler } from './scheduler.ts';
import type { Execution, Servers } from './servers.ts';

/** Commands after which an anchor has said nothing new. */
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

/** Puts before the ledger what scripts, data paths, relays and devices do. The first broken rule is kept. */
export class Judge {
  failure: unknown;
  private readonly scheduler: Scheduler;
  private readonly servers: Servers;
  private readonly ledger: Ledger;
  private readonly audit: Audit;
  /** With `MOORING_TRACE`: what happened, to be read when a rule broke. */
  private readonly tells = process.env.MOORING_TRACE !== undefined;

  constructor(scheduler: Scheduler, servers: Servers, ledger: Ledger, audit: Audit) {
    this.scheduler = scheduler;
    this.servers = servers;
    this.ledger = ledger;
    this.audit = audit;
  }

  tell(line: () => string): void {
    if (this.tells) console.log(`${this.scheduler.nowMs.toFixed(1).padStart(8)}  ${line()}`);
  }

  /** A data path was given a command. */
  commanded(path: DataPath, command: EngineCommand): void {
    this.tell(() => `${path.host.id} engine ${JSON.stringify(command, decimal).slice(0, 160)}`);
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

  /** A server has run a script: what has it said? Resolves with the anchor that may have said something. */
  async executed({ host, command, keys, args, answer, database }: Execution): Promise<string | undefined> {
    this.tell(
      () =>
        `${host} → ${database} ${command} ${/\{.:[^}]*\}/.exec(keys[0]!)?.[0]} ${args.join(' ').slice(0, 90)}: ${JSON.stringify(answer).slice(0, 90)}`,
    );
    const anchor = /\{a:([^}]*)\}/.exec(keys[0]!)?.[1];
    if (anchor === undefined || QUIET.has(command)) return undefined;
    if (typeof answer === 'number' && answer < 0) return undefined;
    const request = command === 'grant' ? args[0]!.split(':')[0] : undefined;
    const { lastId } = this.ledger.page(anchor, database);
    const entries = await this.audit.eventsAfter(anchor, database, lastId);
    this.tell(
      () => `   audit ${database} after ${lastId}: ${entries.map(({ fence, type }) => `${fence} ${type}`)}`,
    );
    this.attempt(() => {
      for (const event of entries) this.ledger.heard(anchor, database, event, command, request);
    });
    return anchor;
  }

  /** The owner says that it has installed a lease. */
  installed(path: DataPath, { id, anchor }: Pick<Lease, 'id' | 'anchor'>, failedOver: boolean): void {
    const relay = path.host.id;
    const held = path.anchors.get(anchor);
    if (held !== undefined && !held.leases.has(id) && !this.isOver(id)) {
      this.fail(`${relay} acknowledges ${id} without having it`);
    }
    const server = this.servers.of(`{a:${anchor}}`);
    const isPending = this.ledger.page(anchor, server.current).leases.get(id)?.state === 'pending';
    if (isPending && server.deceived.size === 0 && !failedOver) {
      this.fail(`${relay} acknowledges ${id}, which is pending`);
    }
  }

  /** A device was answered. */
  acknowledged(actor: DeviceActor, request: string): void {
    const now = new Set([...this.ledger.currentLeases()].map((known) => known.lease));
    const live = [...actor.answers.get(request)!].filter((id) => now.has(id) && !this.isOver(id));
    if (live.length > 1 && !this.ledger.indexForgot)
      this.fail(`request ${request} was answered with ${live.join(' and ')}`);
  }

  private isOver(lease: string): boolean {
    return (this.ledger.expiryOf(lease) ?? 0) <= this.scheduler.nowMs + 1_000;
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
}

function decimal(_: string, value: unknown): unknown {
  return typeof value === 'bigint' ? String(value) : value;
}
