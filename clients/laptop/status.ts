import type { Lease } from '../../src/protocol/lease.ts';
import type { HeldLease } from '../sdk/device.ts';
import type { AccessLink } from './link-choice.ts';
import type { Measured } from './link-quality.ts';
import { remarksOn } from './remarks.ts';
import type { TranslatorWatch } from './translator-watch.ts';
import type { TunnelRun } from './tunnel-run.ts';

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

/** What an agent knows when it is asked for its status. */
export interface AgentParts {
  readonly isStopped: boolean;
  readonly held: HeldLease | null;
  readonly interface: string;
  readonly mtu: number;
  /** What the packet worker says; null while there is none. */
  readonly worker: Awaited<ReturnType<TunnelRun['status']>> | null;
  readonly mover: TunnelRun['mover'] | null;
  readonly links: readonly AccessLink[];
  readonly translator: TranslatorWatch;
  readonly killSwitch: boolean;
  readonly signalling: AgentStatus['signalling'];
}

export function statusOf(agent: AgentParts): AgentStatus {
  const { held, links, mover, signalling, killSwitch, worker } = agent;
  const session = worker?.session ?? null;
  return {
    state: agent.isStopped ? 'stopped' : (mover?.state ?? 'starting'),
    lease: held?.lease ?? null,
    tunnel:
      held === null
        ? null
        : {
            interface: agent.interface,
            mtu: agent.mtu,
            endpoints: held.tunnel.endpoints.map(({ address, port }) => `${address}|${port}`),
            index: held.tunnel.index,
          },
    path:
      session?.bound == null
        ? null
        : {
            link: session.bound,
            observed: session.observed?.key ?? null,
            generation: session.generation,
            rttMs: session.rttMs,
          },
    epoch: session === null ? null : String(session.epoch),
    keyNumber: session?.keyNumber ?? null,
    killSwitch,
    links: mover?.links ?? links.map((link) => ({ ...link, measured: null, passedOver: false })),
    remarks: remarksOn({
      links,
      endpoints: held?.tunnel.endpoints.map(({ address }) => address) ?? [],
      translator: agent.translator,
    }),
    wanted: mover?.wanted ?? null,
    signalling,
    counters: session?.counters ?? {},
    sendErrors: worker?.sendErrors ?? {},
    moves: mover?.moves ?? [],
  };
}
