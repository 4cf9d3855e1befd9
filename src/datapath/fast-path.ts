import type { SocketAddress } from '../protocol/address.ts';
import type { RsipErrorNumber } from '../protocol/errors.ts';
import type { Lease } from '../protocol/lease.ts';
import type { DataKeyName } from '../tunnel/keys.ts';
import type { WindowState } from '../tunnel/window.ts';
import type { Policing } from './decision/policing.ts';
import type { EngineCounters, LeftBehind } from './engine-api.ts';

/**
 * What the userspace engine tells a faster engine in front of it, at every change of what a packet may do. The
 * userspace engine decides; the fast one repeats its decisions for the packets that it understands and leaves every
 * other packet untouched to the userspace engine. Nothing here throws for want of room: what the fast engine cannot
 * hold, it does not forward. All times are milliseconds on the clock of `monotonicMs()`.
 */
export interface FastPath {
  /** Every address that the relay's own host answers to, in place of those named before. */
  hostAddresses(addresses: readonly Uint8Array[]): void;
  /**
   * An anchor to forward for once it begins. Before, its addresses mean nothing, whatever is installed on it: packets to them are
   * left to the kernel. One of that id that a former process left behind is gone on with.
   */
  anchor(anchor: FastAnchorSpec): FastAnchor;
  /** A session of `anchor`. One of that id that a former process left behind goes on as it was until it is changed. */
  session(anchor: FastAnchor, session: FastSessionSpec, listener: FastListener): FastSession;
  /** Installs a lease, moves its deadline, or gives it to another session or another port block. */
  lease(lease: Lease, session: FastSession, untilMs: number): void;
  dropLease(id: string): void;
  /** Waits until no packet is under way in the fast engine that began before. Rare: it takes milliseconds. */
  settle(): void;
  /** What a former process left behind, by anchor: to be imported after the installation of the same sessions. */
  leftBehind(): readonly LeftBehind[];
  /** Drops what a former process left behind on `anchor` and nothing since has claimed. */
  dropUnclaimed(anchor: string): void;
  /** Packets that the fast engine decided, under the names of the userspace engine; a former process's too. */
  counters(): EngineCounters;
}

export interface FastAnchorSpec {
  readonly id: string;
  /** Tunnel endpoints, canonical text. */
  readonly endpoints: readonly string[];
}

export interface FastAnchor {
  /** It is this relay's under `epoch`; a packet at or after `untilMs` is not forwarded. `resumes`: its sessions go on under their keys. */
  begin(epoch: bigint, untilMs: number, resumes: boolean): void;
  /** −Infinity: forward nothing. */
  deadline(untilMs: number): void;
  /** After every session of it was dropped. */
  drop(): void;
}

export interface FastSessionSpec {
  /** 32 hexadecimal digits. */
  readonly id: string;
  readonly index: number;
  /** SipHash key (16 octets) of the CONTROL datagrams that the device sends. */
  readonly controlTagKey: Uint8Array;
}

/** A DATA key of one direction: 16 octets, and what they were derived from. */
export interface FastKey {
  readonly octets: Uint8Array;
  readonly name: DataKeyName;
}

/** Where downlink goes, under which key. */
export interface FastWay {
  readonly path: SocketAddress;
  /** The anchor's tunnel endpoint of the path's family, canonical text. */
  readonly endpoint: string;
  readonly key: FastKey;
  /** Where the fast lane's numbers go on when this key is new to the fast engine; later ones stand above it. */
  readonly nextSequence: number;
  /**
   * Until then every packet is left to the userspace engine, which queues it; a process that dies meanwhile must not
   * hold for ever. Null: forward.
   */
  readonly heldUntilMs: number | null;
}

/** What the next process must know of a session beside its way and keys. */
export interface FastSessionFacts {
  readonly deviceBoot: bigint;
  readonly generation: number;
  readonly rttMs: number;
}

export interface FastSession {
  /** It forwards on a way already: what a former process left behind goes on. */
  readonly forwards: boolean;
  /**
   * Receive DATA under `key` too; the one before it until `previousUntilMs`. The same key again changes nothing but that.
   * `window`: what lane 0 received under it elsewhere. An older key may have to give way: see `FastListener.fastWindow`.
   */
  receive(key: FastKey, previousUntilMs: number, window: WindowState | null): void;
  /** Receive no DATA any more: all of it is the userspace engine's, which is told what came until now. */
  stopReceiving(): void;
  /** Null: no way, every downlink packet is left to the userspace engine. */
  way(way: FastWay | null): void;
  facts(facts: FastSessionFacts): void;
  /** The userspace engine will use no number of lane 0 from `sequence` on under the key in use, before it says so. */
  reserve(sequence: number): void;
  /** What was received in lane 0 under a key; null for a key that the fast engine does not have. */
  window(keyNumber: number): WindowState | null;
  /** The number that the fast lane's next packet under `keyNumber` gets; null for a key never sent under. */
  nextSequence(keyNumber: number): number | null;
  /**
   * Charges a packet of `octets` that the userspace engine is about to let through to the session's rate, which both engines
   * share; false: too soon. Null: the fast engine has no part in it.
   */
  charge(direction: 'uplink' | 'downlink', rate: Policing, octets: number, nowMs: number): boolean | null;
  /** Forget the session and its leases. Its place is used again only when no packet can be under way to it. */
  drop(): void;
}

/** What the fast engine reports of a session's packets. */
export interface FastListener {
  /** DATA that tag and window admitted came from another address than downlink goes to, or under another key. */
  fastData(from: SocketAddress, keyNumber: number, octets: number, nowMs: number): void;
  /** DATA was dropped that no key or window admits. */
  fastRefused(from: SocketAddress, octets: number, nowMs: number): void;
  /** A way that it could not take at once can be taken now: until then every packet was left to the userspace engine. */
  fastReady(nowMs: number): void;
  /**
   * The fast engine receives no longer under this key, but the userspace engine may: this was received in lane 0. Told at
   * once, and again when no packet is under way any more.
   */
  fastWindow(keyNumber: number, window: WindowState): void;
  /** A packet of the device was dropped, and the device is to be told why. */
  fastNotice(code: RsipErrorNumber, nowMs: number): void;
  /** A DATA key wears out. */
  fastRekey(keyNumber: number, nowMs: number): void;
  /** ESP or AH went out from a shared address: what an ICMP error about it will quote. */
  fastFlow(flow: FastFlow, nowMs: number): void;
}

export interface FastFlow {
  readonly address: Uint8Array;
  readonly peer: Uint8Array;
  readonly protocol: number;
  /** The peer's SPI. */
  readonly spi: number;
}
