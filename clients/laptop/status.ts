import type { Lease } from '../../src/protocol/lease.ts';
import type { AccessLink } from './link-choice.ts';
import type { Measured } from './link-quality.ts';

/** One rebind, complete when the relay sends to the new link. */
export interface Move {
  /** Milliseconds since the Unix epoch, when the move began. */
  readonly atMs: number;
  readonly from: string | null;
  readonly to: string;
  readonly oldPath: 'alive' | 'dead' | 'unknown';
  /** Null until the relay has accepted it. */
  readonly bound: {
    readonly generation: number;
    readonly tookMs: number;
    readonly rttMs: number;
    readonly observed: string | null;
  } | null;
}

/** A link, and what was measured of it. */
export interface LinkStatus extends AccessLink {
  /** Null: not measured, as with a single link there is nothing to choose. */
  readonly measured: Measured | null;
  /** So much worse than another one that it is not used although it would be preferred. */
  readonly passedOver: boolean;
}

/** What `status --json` prints. Holds no secret. */
export interface AgentStatus {
  /**
   * `starting`: no lease yet. `binding`: the relay does not send to us yet, or not any more. `bound`: packets flow.
   * `offline`: no access network. `stopped`.
   */
  readonly state: 'starting' | 'binding' | 'bound' | 'offline' | 'stopped';
  readonly lease: Lease | null;
  readonly tunnel: {
    readonly interface: string;
    readonly mtu: number;
    readonly endpoints: readonly string[];
    readonly index: number;
  } | null;
  readonly path: {
    readonly link: string;
    /** Our address as the relay sees it, `address|port`. */
    readonly observed: string | null;
    readonly generation: number;
    readonly rttMs: number;
  } | null;
  /** Of the anchor, decimal. */
  readonly epoch: string | null;
  readonly keyNumber: number | null;
  /** Nothing leaves the machine but through the tunnel. */
  readonly killSwitch: boolean;
  readonly links: readonly LinkStatus[];
  /** What a person should know of the networks that this machine is in. */
  readonly remarks: readonly string[];
  /** What `use` asked for. */
  readonly wanted: string | null;
  readonly signalling: { readonly connected: boolean; readonly lastError: string | null };
  readonly counters: Readonly<Record<string, number>>;
  readonly sendErrors: Readonly<Record<string, number>>;
  /** The latest, oldest first. */
  readonly moves: readonly Move[];
}
