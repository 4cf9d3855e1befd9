import type { Principal, TokenVerifier } from '../auth/verifier.ts';
import type { PoolSettings } from '../config/schema.ts';
import type { Lease } from '../protocol/lease.ts';
import type { RelayPlane, Sealing } from '../protocol/relay-plane.ts';
import type { RequestName, RequestOf, ResultOf } from '../protocol/signalling.ts';
import type { Registry } from '../registry/registry.ts';
import type { Log } from '../telemetry/log.ts';
import type { SignallingLimits } from './limits.ts';
import type { Owners } from './owners.ts';

/** What signalling asks of the registry. */
export type SignallingRegistry = Pick<
  Registry,
  'grant' | 'extend' | 'free' | 'attach' | 'deviceLeases' | 'owner' | 'register' | 'deregister'
>;

/** Resolves the plane of a relay by its id; rejects when that relay cannot be reached. */
export type PlaneFor = (relayId: string) => Promise<RelayPlane>;

/** What an operator's pools say that signalling applies. */
export type PoolPolicy = Pick<PoolSettings, 'name' | 'leaseMs' | 'maxLeasesPerDevice'> &
  Partial<Omit<PoolSettings, 'name' | 'leaseMs' | 'maxLeasesPerDevice' | 'anchors'>>;

/** What every request handler may use. */
export interface Door {
  /** What `htu` of a device's proof must name. */
  readonly url: string;
  readonly verifier: Pick<TokenVerifier, 'verify'>;
  readonly registry: SignallingRegistry;
  readonly owners: Owners;
  /** By name; they may change at any time. */
  readonly pools: ReadonlyMap<string, PoolPolicy>;
  readonly limits: SignallingLimits;
  /** Hears of every answer: what was asked, and the error when it was refused. */
  readonly answered: (request: RequestName, error: unknown) => void;
  readonly log: Log;
  /** Cryptographically strong octets. */
  readonly random: (octets: number) => Uint8Array;
  /** Monotonic clock, milliseconds. */
  readonly nowMs: () => number;
  /** Wall clock, milliseconds since 1970: for the expiry of tokens only. */
  readonly wallMs: () => number;
}

/** The device behind a socket, once its `hello` is accepted. */
export interface Caller {
  readonly principal: Principal;
  /** What K_root is sealed to, with the device's proof that it is its own choice. */
  readonly sealing: Sealing;
  /** Leases that the registry has said are this device's, by id; perhaps ended since. */
  readonly leases: Map<string, Lease>;
  /** Leases that are being freed at this socket's own wish: their end is an answer here, not news. */
  readonly freeing: Set<string>;
}

/** Answers one kind of request, or throws what the device is told. */
export type Handler<K extends RequestName> = (
  frame: RequestOf<K>,
  caller: Caller,
  door: Door,
) => Promise<ResultOf<K>>;
