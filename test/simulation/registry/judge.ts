import type { EngineCommand } from '../../../src/datapath/engine-api.ts';
import type { Lease } from '../../../src/protocol/lease.ts';
import { REFUSALS } from '../../../src/registry/commands.gen.ts';
import { eventFrom } from '../../../src/registry/records.ts';
import type { DataPath } from './data-path.ts';
import type { DeviceActor } from './device-actor.ts';
import type { Disk } from './disk.ts';
import type { Ledger } from './ledger.ts';
import type { Scheduler } from './scheduler.ts';
import { DATABASES, type Execution, type Servers } from './servers.ts';

/** Is told all that happens, to be read when a rule broke. */
export type Trace = (line: string) => void;

/** Puts before the ledger what scripts, data paths, relays and devices do. The first broken rule is kept. */
export class Judge {
  failure: unknown;
  /** Scripts that were refused because something may be lost. */
  quarantined = 0;
  private readonly scheduler: Scheduler;
  private readonly servers: Servers;
  private readonly ledger: Ledger;
  private readonly trace: Trace | undefined;

  constructor(scheduler: Scheduler, servers: Servers, ledger: Ledger, trace?: Trace) {
    this.scheduler = scheduler;
    this.servers = servers;
    this.ledger = ledger;
    this.trace = trace;
  }

  tell(line: () => string): void {
    this.trace?.(`${this.scheduler.nowMs.toFixed(1).padStart(8)}  ${line()}`);
  }

  /** A data path was given a command. */
  commanded(path: DataPath, command: EngineCommand): void {
    this.tell(() => `${path.host.id} engine ${JSON.stringify(command, decimal).slice(0, 160)}`);
    this.attempt(() => {
      switch (command.op) {
        case 'anchor':
          // A start that goes on by its journal begins with its standby's first promise.
          if (command.anchor.untilMs > Number.NEGATIVE_INFINITY) this.begins(path, command.anchor.id);
          this.ledger.oneForwarder(command.anchor.id);
          return;
        case 'deadline':
          if (path.forwards(command.anchor)) this.begins(path, command.anchor);
          this.ledger.oneForwarder(command.anchor);
          return;
        case 'lease':
          this.ledger.installed(path, command.lease, command.untilMs);
          return;
        default:
      }
    });
  }

  private begins(path: DataPath, anchor: string): void {
    this.ledger.begins(anchor, path.host.id, path.anchors.get(anchor)!.epoch);
  }

  /** A server has run a script: true when it has said something. */
  executed({ host, command, keys, args, answer, database, nowMs, entries }: Execution): boolean {
    this.tell(
      () =>
        `${host} → ${database % DATABASES} ${command} ${/\{.:[^}]*\}/.exec(keys[0]!)?.[0]} ${args.join(' ').slice(0, 90)}: ${JSON.stringify(answer).slice(0, 90)}${entries.map(({ fence, text }) => `\n${' '.repeat(12)}${fence} ${text.slice(0, 160)}`).join('')}`,
    );
    if (answer === REFUSALS.QUARANTINED) this.quarantined += 1;
    if (entries.length === 0) return false;
    const request = command === 'grant' ? args[1]!.split('.')[1]?.slice(0, 11) : undefined;
    const anchor = anchorIn(keys[0]!);
    this.attempt(() => {
      for (const { fence, text } of entries) {
        const event = eventFrom(fence, text, { anchor, pool: 'p', nowMs });
        this.ledger.heard(anchor, database, event, command, request);
      }
    });
    return true;
  }

  /** The owner says that it has installed a lease. */
  installed(path: DataPath, disk: Disk, lease: Pick<Lease, 'id' | 'anchor'>, failedOver: boolean): void {
    const { id, anchor } = lease;
    const relay = path.host.id;
    const held = path.anchors.get(anchor);
    // Its device may have given it back while it was being answered.
    const isOver = this.isOver(id) || this.ledger.hasEnded(id);
    if (held !== undefined && !held.leases.has(id) && !isOver) {
      this.fail(`${relay} acknowledges ${id} without having it`);
    }
    if (held?.leases.has(id) === true && !disk.hasAcknowledged(lease)) {
      this.fail(`${relay} acknowledges ${id}, which its disk does not have`);
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
    if (live.length > 1) this.fail(`request ${request} was answered with ${live.join(' and ')}`);
  }

  private isOver(lease: string): boolean {
    return (this.ledger.expiryOf(lease) ?? 0) <= this.scheduler.nowMs + 1_000;
  }

  fail(what: string): void {
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

/** The anchor of a key, or of its tag. */
export function anchorIn(key: string): string {
  return /\{a:([^}]*)\}/.exec(key)![1]!;
}

function decimal(_: string, value: unknown): unknown {
  return typeof value === 'bigint' ? String(value) : value;
}
