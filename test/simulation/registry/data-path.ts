import type { EngineAnswer, EngineCommand } from '../../../src/datapath/engine-api.ts';
import type { Lease } from '../../../src/protocol/lease.ts';
import type { Host } from './scheduler.ts';

/** How long after its deadline a data path may still let a packet through. */
export const LATE_MS = 50;

type Leases = Map<string, { readonly lease: Lease; readonly untilMs: number }>;

interface Forwarded {
  readonly epoch: bigint;
  untilMs: number;
  frozen: boolean;
  /** By the process before: nobody has spoken of it since. */
  leftBehind: boolean;
  readonly leases: Leases;
}

/** What a relay's packet engine would forward: it knows anchors, their deadlines and leases, and the host's clock. */
export class DataPath {
  readonly host: Host;
  readonly anchors = new Map<string, Forwarded>();
  /** Kept for anchors that another relay owns; nothing is forwarded by it. */
  private readonly followed = new Map<string, Leases>();
  private readonly onCommand: (command: EngineCommand) => void;

  constructor(host: Host, onCommand: (path: DataPath, command: EngineCommand) => void) {
    this.host = host;
    this.onCommand = (command) => onCommand(this, command);
  }

  /** Whether a packet for the anchor may pass now. */
  forwards(anchor: string): boolean {
    const held = this.anchors.get(anchor);
    return held !== undefined && !held.frozen && this.host.clockMs() < held.untilMs + LATE_MS;
  }

  forwardsLease(anchor: string, lease: string): boolean {
    const held = this.anchors.get(anchor)?.leases.get(lease);
    return held !== undefined && this.forwards(anchor) && this.host.clockMs() < held.untilMs;
  }

  command = async <C extends EngineCommand>(command: C): Promise<EngineAnswer<C>> => {
    this.apply(command);
    this.onCommand(command);
    const answer =
      command.op === 'export' ? { sessions: [] } : command.op === 'left-behind' ? { anchors: [] } : null;
    return answer as EngineAnswer<C>;
  };

  /** The process that followed has ended; what is pinned goes on. */
  forget(): void {
    this.followed.clear();
    for (const held of this.anchors.values()) held.leftBehind = true;
  }

  /** The host is gone. */
  clear(): void {
    this.anchors.clear();
    this.followed.clear();
  }

  private apply(command: EngineCommand): void {
    switch (command.op) {
      case 'follow':
        this.followed.set(command.anchor, new Map());
        return;
      case 'unfollow':
        this.followed.delete(command.anchor);
        return;
      case 'anchor': {
        const { id, epoch, untilMs } = command.anchor;
        const known = this.anchors.get(id);
        // Of what a process before has left behind, each lease is told anew.
        if (known?.epoch === epoch && !known.leftBehind) {
          known.untilMs = untilMs;
          known.frozen = false;
          return;
        }
        const leases = this.followed.get(id) ?? new Map();
        this.followed.delete(id);
        this.anchors.set(id, { epoch, untilMs, frozen: false, leftBehind: false, leases });
        return;
      }
      case 'drop-anchor':
        this.anchors.delete(command.anchor);
        return;
      case 'deadline': {
        const held = this.anchors.get(command.anchor);
        if (held?.leftBehind === false) held.untilMs = command.untilMs;
        return;
      }
      case 'lease': {
        const { anchor, lease, untilMs } = command;
        this.leasesOf(anchor)?.set(lease.id, { lease, untilMs });
        return;
      }
      case 'drop-lease':
        this.leasesOf(command.anchor)?.delete(command.id);
        return;
      case 'export': {
        const held = this.anchors.get(command.anchor);
        if (held !== undefined) held.frozen = true;
        return;
      }
      case 'import': {
        const held = this.anchors.get(command.anchor);
        if (held !== undefined) held.frozen = false;
        return;
      }
      default:
        return;
    }
  }

  /** What is told of an anchor goes there: to what is followed, if it is. */
  leasesOf(anchor: string): Leases | undefined {
    return this.followed.get(anchor) ?? this.anchors.get(anchor)?.leases;
  }
}
