import type { ErrorDetail } from '../../protocol/errors.ts';
import type { TunnelMarking } from '../../tunnel/dscp-ecn.ts';
import type { EngineAnswer, EngineCommand, EngineEvent, EngineStatus } from '../engine-api.ts';
import type { XdpWish } from '../xdp/fast-engine.ts';
import type { SessionPolicing } from './session.ts';

/** What passes between the engine's handle and its thread. All of it survives structured cloning. */

export interface EngineSettings {
  /** Name of the TUN device. */
  readonly tun: string;
  /** Inner MTU, octets. */
  readonly mtu: number;
  /** UDP port of the tunnel. */
  readonly port: number;
  readonly relayBoot: bigint;
  readonly marking: TunnelMarking;
  readonly policing: SessionPolicing;
  /** The TUN device outlives the process. */
  readonly persist: boolean;
  readonly inherited: EngineDescriptors;
  /** Null: no XDP, and nothing is known of any. */
  readonly xdp: XdpWish | null;
  /** Takes no packet before ENGINE_BEGIN. */
  readonly waits: boolean;
}

/** The engine's sockets as descriptors of the process. */
export interface EngineDescriptors {
  readonly udp4?: number;
  readonly udp6?: number;
}

/** The message after which an engine that waits takes packets. */
export const ENGINE_BEGIN = 'mooring:begin';

/** No packet is under way any more that was when the thread asked by `grace`. */
export interface GraceOver {
  readonly graceOver: number;
}

export interface EngineRequest {
  readonly id: number;
  readonly command: EngineCommand;
}

export type FromEngine =
  | { readonly type: 'ready'; readonly descriptors: EngineDescriptors; readonly status: EngineStatus }
  /** It could not start, and ends. */
  | { readonly type: 'not-started'; readonly error: PlainError }
  /** To be answered by `GraceOver` after a grace period: the thread itself never comes back to its event loop. */
  | { readonly type: 'grace'; readonly id: number }
  | { readonly type: 'answers'; readonly answers: readonly Answered[] }
  | { readonly type: 'event'; readonly event: EngineEvent };

/** What became of one request. */
export type Answered =
  | { readonly id: number; readonly answer: EngineAnswer }
  | { readonly id: number; readonly error: PlainError };

/** A MooringError without its prototype, which cloning does not keep. */
export interface PlainError {
  readonly code: `ERR_MOORING_${string}`;
  readonly message: string;
  readonly detail: ErrorDetail;
}
