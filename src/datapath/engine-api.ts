import type { SocketAddress } from '../protocol/address.ts';
import type { Lease, PathHint } from '../protocol/lease.ts';
import type { SessionState } from '../protocol/relay-plane.ts';

/**
 * What a relay node asks of its packet engine. All times are milliseconds on the process's monotonic clock
 * (`monotonicMs()`), which main thread and packet worker share. Every command is answered in order.
 */
export type EngineCommand =
  /**
   * Another relay owns the anchor, and this one stands by: what `session`, `lease`, `drop-session` and `drop-lease` say of it from now on is
   * installed, and nothing is forwarded for it. The anchor's `anchor` command ends that: a session begins when somebody speaks to it,
   * and the silent ones bit by bit; who has begun is told by `begun`.
   */
  | { readonly op: 'follow'; readonly anchor: string; readonly endpoints: readonly string[] }
  /** It stands by no longer: what was installed for it is forgotten. */
  | { readonly op: 'unfollow'; readonly anchor: string }
  /**
   * Every address that the relay's own host answers to (canonical text), in place of those named before: no device may
   * speak to them through the tunnel. Before the first anchor, and at every change.
   */
  | { readonly op: 'host-addresses'; readonly addresses: readonly string[] }
  | { readonly op: 'anchor'; readonly anchor: EngineAnchor }
  /** Forget the anchor and everything on it; nothing is forwarded for it from here on. */
  | { readonly op: 'drop-anchor'; readonly anchor: string }
  /** Forward for the anchor until then and not after, whatever happens to the process that asks. */
  | { readonly op: 'deadline'; readonly anchor: string; readonly untilMs: number }
  | { readonly op: 'session'; readonly anchor: string; readonly session: EngineSession }
  | { readonly op: 'drop-session'; readonly anchor: string; readonly id: string }
  /** Where sessions were last proven: of use to those that no device has proven itself to yet. */
  | { readonly op: 'hints'; readonly anchor: string; readonly hints: readonly PathHint[] }
  | { readonly op: 'lease'; readonly anchor: string; readonly lease: Lease; readonly untilMs: number }
  | { readonly op: 'drop-lease'; readonly anchor: string; readonly id: string }
  | {
      readonly op: 'rebind';
      readonly anchor: string;
      readonly datagram: Uint8Array;
      readonly believed: SocketAddress;
    }
  /** Stop forwarding for the anchor and return its sessions' state, to be continued by another relay. */
  | { readonly op: 'export'; readonly anchor: string }
  /** Continue sessions that another relay exported (after `anchor`, `session` and `lease`). */
  | { readonly op: 'import'; readonly anchor: string; readonly sessions: readonly SessionState[] }
  /**
   * Sessions that a former process of this relay left behind forwarding, by anchor: to be imported after the
   * installation of their anchor, or not at all.
   */
  | { readonly op: 'left-behind' }
  /** An anchor is installed, with all that was to be imported: what was left behind on it and not claimed ends. */
  | { readonly op: 'installed'; readonly anchor: string }
  | { readonly op: 'counters' };

export interface EngineAnchor {
  readonly id: string;
  /** Tunnel endpoint addresses, canonical text, one of each family at most; never leased. */
  readonly endpoints: readonly string[];
  readonly epoch: bigint;
  readonly untilMs: number;
  /**
   * An `import` will follow: forward nothing and say nothing to anybody before it. Challenging the last known paths
   * meanwhile would make devices change keys that the import is about to continue.
   */
  readonly resumes?: boolean;
}

export interface EngineSession {
  readonly id: string;
  readonly index: number;
  /** K_root, 32 octets. */
  readonly root: Uint8Array;
  /** Where it was last proven under a former owner: challenged, never trusted. */
  readonly hint: PathHint | null;
}

export type EngineAnswer<C extends EngineCommand = EngineCommand> = C extends { op: 'export' }
  ? { readonly sessions: readonly SessionState[] }
  : C extends { op: 'left-behind' }
    ? { readonly anchors: readonly LeftBehind[] }
    : C extends { op: 'counters' }
      ? EngineCounters
      : null;

export interface LeftBehind {
  readonly anchor: string;
  readonly sessions: readonly SessionState[];
}

/** Packets since the engine started, by direction and verdict (`forwarded`, `held`, or the drop reason). */
export interface EngineCounters {
  readonly downlink: Readonly<Record<string, number>>;
  readonly uplink: Readonly<Record<string, number>>;
  readonly control: Readonly<Record<string, number>>;
}

/** What forwards, and what an operator should know about it. */
export interface EngineStatus {
  readonly engine: 'xdp' | 'userspace';
  /** Interfaces that the XDP program is on. `generic`: in the kernel, not in the driver; `reason` says why. */
  readonly interfaces: readonly {
    readonly name: string;
    readonly mode: 'native' | 'generic';
    readonly reason?: string;
  }[];
  /** Why there is no XDP, what was taken over from a former process, what it cannot do here. */
  readonly notes: readonly string[];
}

/** What the engine tells the relay node. */
export type EngineEvent =
  /** A path was proven and is active; the registry keeps it as a hint. */
  | {
      readonly type: 'path';
      readonly anchor: string;
      readonly hint: PathHint;
      readonly oldPath: 'alive' | 'dead' | 'unknown';
      /** From the first message of this rebind to the flip, milliseconds. */
      readonly tookMs: number;
    }
  | { readonly type: 'lease-expired'; readonly anchor: string; readonly lease: string }
  /** Sessions that stood by have begun: each waits for its last path, by `hints`. */
  | { readonly type: 'begun'; readonly anchor: string; readonly sessions: readonly string[] }
  /** A lease cannot stand by: another has its resources. */
  | {
      readonly type: 'lease-refused';
      readonly anchor: string;
      readonly lease: string;
      readonly reason: string;
    };
