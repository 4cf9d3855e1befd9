import { base64url } from 'jose';
import type { SocketAddress } from '../../src/protocol/address.ts';
import { MooringError } from '../../src/protocol/errors.ts';
import type { EndReason, Lease, LeaseKind, Remote } from '../../src/protocol/lease.ts';
import type { Tunnel } from '../../src/protocol/relay-plane.ts';
import type { Grant } from '../../src/protocol/signalling.ts';
import { newSealingKeyPair, openRoot } from '../../src/tunnel/root-sealing.ts';
import { type BackOff, backOffMs } from './reconnect.ts';
import { createSignallingClient, type SignallingEvent, type SignallingOptions } from './signalling.ts';
import { systemTimers } from './timers.ts';

export interface DeviceOptions extends Omit<SignallingOptions, 'sealingKey' | 'onEvent'> {
  readonly onEvent?: (event: DeviceEvent) => void;
}

export type DeviceEvent =
  | Exclude<SignallingEvent, { type: 'ended' }>
  | { readonly type: 'extended'; readonly lease: Lease }
  | { readonly type: 'extension-failed'; readonly lease: Lease; readonly error: MooringError }
  /** A lease is over: freed or revoked elsewhere, or not extended in time. */
  | { readonly type: 'ended'; readonly lease: string; readonly reason: EndReason };

export interface LeaseWish {
  /** 128 random bits, hexadecimal: repeating the wish, also after a crash, returns the same lease. */
  readonly request: string;
  readonly pool: string;
  readonly kind: LeaseKind;
  /** Default: the pool's. */
  readonly leaseMs?: number;
  /** The one remote that it is to be for, where the pool asks for it; `port` null: any port of it. */
  readonly remote?: Remote;
}

/** A lease and what its tunnel needs. It is extended until it is freed or the device is closed. */
export interface HeldLease {
  /** As last told by the server. */
  readonly lease: Lease;
  readonly tunnel: Tunnel;
  /** K_root of its session, 32 octets: a secret. */
  readonly root: Uint8Array;
  extend(leaseMs?: number): Promise<Lease>;
  /**
   * Has its port block double in place until it holds at least so many ports; those that it had stay. Resolves when they are forwarded:
   * `lease` and the event `extended` have the block. Throws LOCAL_ADDRPORT_UNAVAILABLE (309) when it cannot have all of them, and has what it
   * had then; temporary refusals are retried with back-off.
   */
  widen(ports: number): Promise<Lease>;
  /** Carries a sealed CONTROL datagram to the relay that owns the session, with the address believed. */
  rebind(datagram: Uint8Array, believed: SocketAddress): Promise<void>;
  free(): Promise<void>;
}

interface ExtensionWish {
  readonly leaseMs?: number | undefined;
  /** At least so many. */
  readonly ports?: number;
}

export interface Device {
  /** Resolves when granted and installed; temporary refusals are retried with back-off. Throws permanent ones. */
  lease(wish: LeaseWish): Promise<HeldLease>;
  /**
   * The tunnel of a lease that this device holds already, to be extended by `leaseMs` at a time (default: the pool's).
   * Errors as `lease`.
   */
  attach(lease: string, leaseMs?: number): Promise<HeldLease>;
  networkChanged(): void;
  /**
   * The machine was suspended for `sleptMs` that its clock does not count: leases are that much nearer to their end, and
   * are extended at once.
   */
  woke(sleptMs: number): void;
  readonly connected: boolean;
  /** Leaves leases as they are. */
  close(): void;
}

/** RSIP: the lease is not this device's (any more). */
const BAD_BIND_ID = 306;
const LEASE_BACK_OFF: BackOff = { firstMs: 500, longestMs: 15_000 };
/** RFC 6887 §11.2.1: no closer together than this. */
const LEAST_RENEWAL_MS = 4_000;
/** While nobody can extend a lease its relay keeps it for so long at most: `relay.outageGraceMs`. */
const OUTAGE_GRACE_MS = 3_600_000;
const REGISTRY_AWAY: readonly string[] = ['ERR_MOORING_REGISTRY_UNAVAILABLE', 'ERR_MOORING_QUARANTINED'];

/**
 * Milliseconds to wait before the next extension: a random point between 1/2 and 5/8 of what is left
 * (RFC 6887 §11.2.1); unsuccessful ones close in on the end by the same rule.
 */
export function extendAfterMs(remainingMs: number, random: () => number): number {
  const waitMs = remainingMs * (0.5 + random() / 8);
  return Math.max(waitMs, Math.min(LEAST_RENEWAL_MS, remainingMs / 2));
}

/** A device at the signalling door. */
export async function createDevice(options: DeviceOptions): Promise<Device> {
  const timers = options.timers ?? systemTimers;
  const random = options.random ?? Math.random;
  const emit = options.onEvent ?? (() => {});
  const sealing = await newSealingKeyPair();
  const held = new Map<string, Extension>();
  const waits = new Set<() => void>();
  let closed = false;

  const client = createSignallingClient({
    ...options,
    sealingKey: sealing.publicKey,
    onEvent(event) {
      if (event.type === 'ended') over(event.lease, event.reason);
      else emit(event);
    },
  });

  function over(lease: string, reason: EndReason): void {
    held.get(lease)?.stop();
    held.delete(lease);
    emit({ type: 'ended', lease, reason });
  }

  async function persevere<T>(request: () => Promise<T>): Promise<T> {
    for (let failures = 0; ; failures += 1) {
      try {
        return await request();
      } catch (error) {
        if (closed || !(error instanceof MooringError) || !error.temporary) throw error;
        await pause(Math.max(backOffMs(failures, LEASE_BACK_OFF, random), error.retryAfterMs ?? 0));
      }
    }
  }

  function pause(delayMs: number): Promise<void> {
    return new Promise((resolve) => {
      const end = (): void => {
        waits.delete(cancel);
        resolve();
      };
      const cancelTimer = timers.after(delayMs, end);
      const cancel = (): void => {
        cancelTimer();
        end();
      };
      waits.add(cancel);
    });
  }

  async function hold({ lease, tunnel }: Grant, leaseMs: number | undefined): Promise<HeldLease> {
    const root = await openRoot(tunnel.sealedRoot, sealing.privateKey, tunnel.sessionId);
    held.get(lease.id)?.stop();
    const extension = new Extension(lease, leaseMs);
    if (!closed) held.set(lease.id, extension);
    return {
      get lease() {
        return extension.lease;
      },
      tunnel,
      root,
      extend: (wishedMs) => extension.now({ leaseMs: wishedMs }),
      widen: (ports) => persevere(() => extension.now({ ports })),
      async rebind(datagram, believed) {
        await client.request(
          'rebind',
          {
            lease: lease.id,
            datagram: base64url.encode(datagram),
            address: believed.address,
            port: believed.port,
          },
          { resend: false, timeoutMs: 5_000 },
        );
      },
      async free() {
        await client.request('free', { lease: lease.id }, { timeoutMs: 10_000 });
        extension.stop();
        held.delete(lease.id);
      },
    };
  }

  /** Keeps one lease alive. */
  class Extension {
    lease: Lease;
    #expiresAtMs = 0;
    #cancel: () => void = () => {};
    #stopped = false;
    /** The registry could not say, when it was asked last. */
    #isAway = false;

    /** Asked for each time; undefined: the pool's own. */
    readonly #leaseMs: number | undefined;

    constructor(lease: Lease, leaseMs: number | undefined) {
      this.lease = lease;
      this.#leaseMs = leaseMs;
      this.#renewed(lease);
    }

    stop(): void {
      this.#stopped = true;
      this.#cancel();
    }

    async now({ leaseMs = this.#leaseMs, ports }: ExtensionWish = {}): Promise<Lease> {
      const { lease } = await client.request('extend', {
        lease: this.lease.id,
        ...(leaseMs === undefined ? {} : { leaseMs }),
        ...(ports === undefined ? {} : { ports }),
      });
      this.#renewed(lease);
      emit({ type: 'extended', lease });
      return lease;
    }

    woke(sleptMs: number): void {
      this.#cancel();
      this.#expiresAtMs -= sleptMs;
      this.#ask();
    }

    #renewed(lease: Lease): void {
      this.lease = lease;
      this.#isAway = false;
      this.#expiresAtMs = timers.nowMs() + lease.remainingMs;
      this.#schedule();
    }

    /** `isKept`: by its relay also past its end, as far as anybody can say. */
    #schedule(isKept = false): void {
      this.#cancel();
      if (this.#stopped) return;
      const remainingMs = this.#expiresAtMs - timers.nowMs();
      if (remainingMs <= (isKept ? -OUTAGE_GRACE_MS : 0)) {
        over(this.lease.id, 'expired');
        return;
      }
      // Nearer to the end than an answer takes, there is only the end to wait for.
      const untilEndMs = remainingMs < 500 ? remainingMs : extendAfterMs(remainingMs, random);
      const waitMs = isKept && remainingMs < LEAST_RENEWAL_MS ? LEAST_RENEWAL_MS : untilEndMs;
      this.#cancel = timers.after(waitMs, () => {
        if (this.#expiresAtMs <= timers.nowMs() && !isKept) {
          this.#schedule();
          return;
        }
        this.#ask();
      });
    }

    #ask(): void {
      this.now().catch((error: unknown) => {
        if (this.#stopped) return;
        const failure = error instanceof MooringError ? error : unexpected(error);
        emit({ type: 'extension-failed', lease: this.lease, error: failure });
        const wasAway = this.#isAway;
        this.#isAway = REGISTRY_AWAY.includes(failure.code);
        // The first word after an outage may come before its relay has said that it kept the lease.
        if (failure.rsip === BAD_BIND_ID && !wasAway) over(this.lease.id, 'expired');
        else this.#schedule(wasAway || this.#isAway);
      });
    }
  }

  return {
    lease: async (wish) => hold(await persevere(() => client.request('lease', { ...wish })), wish.leaseMs),
    attach: async (lease, leaseMs) =>
      hold(await persevere(() => client.request('attach', { lease })), leaseMs),
    networkChanged: () => client.networkChanged(),
    woke(sleptMs) {
      client.networkChanged();
      for (const extension of held.values()) extension.woke(sleptMs);
    },
    get connected() {
      return client.connected;
    },
    close() {
      closed = true;
      for (const extension of held.values()) extension.stop();
      client.close();
      for (const cancel of [...waits]) cancel();
    },
  };
}

function unexpected(cause: unknown): MooringError {
  return new MooringError('ERR_MOORING_INTERNAL', cause instanceof Error ? cause.message : String(cause), {
    cause,
  });
}
