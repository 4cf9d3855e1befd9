import type { Device, Lease } from '../../../src/protocol/lease.ts';
import type { Process } from './scheduler.ts';
import { isTemporary, type SignallingActor } from './signalling-actor.ts';

/** After a first refusal; twice as long after each further one. */
const RETRY_MS = 150;
const MOST_RETRY_MS = 1_200;
const TRIES = 8;

/** What a device was told and has not given up. */
export interface Believed {
  readonly lease: string;
  readonly anchor: string;
  /** Its own clock. */
  untilMs: number;
}

export interface DeviceActor {
  readonly device: Device;
  readonly process: Process;
  readonly believed: Map<string, Believed>;
  /** Request id → the leases that it was answered with. */
  readonly answers: Map<string, Set<string>>;
  /** It has asked this many times after the first. */
  retries: number;
  /** Asks for a lease until there is an answer; `both`: at two doors at once. */
  lease(requestId: string, leaseMs: number, both: boolean): void;
  extend(at: number, leaseMs: number): void;
  free(at: number): void;
}

/** A device that wants leases, at whichever door answers. */
export function startDevice(options: {
  readonly device: Device;
  readonly process: Process;
  readonly doors: number;
  /** Asks a signalling node over the network. */
  ask<T>(door: number, request: (door: SignallingActor) => Promise<T>): Promise<T>;
  onAcknowledged(actor: DeviceActor, lease: Lease, requestId: string): void;
  onFreed(lease: string): void;
}): DeviceActor {
  const { device, process, ask, doors } = options;

  async function insist<T>(
    door: number,
    request: (door: SignallingActor) => Promise<T>,
    heard: (answer: T) => void = () => undefined,
  ): Promise<void> {
    for (let tried = 0; tried < TRIES; tried += 1) {
      if (tried > 0) actor.retries += 1;
      try {
        heard(await ask((door + tried) % doors, request));
        return;
      } catch (error) {
        if (!isTemporary(error)) return;
        const waitMs = Math.min(RETRY_MS * 2 ** tried, MOST_RETRY_MS);
        await new Promise<void>((resolve) => process.after(waitMs, resolve));
      }
    }
  }

  const at = (index: number): Believed | undefined => {
    const all = [...actor.believed.values()].filter(({ untilMs }) => untilMs > process.nowMs());
    return all[index % Math.max(1, all.length)];
  };

  const actor: DeviceActor = {
    ...{ device, process, believed: new Map(), answers: new Map(), retries: 0 },
    lease(requestId, leaseMs, both) {
      const sentMs = process.nowMs();
      const request = (door: SignallingActor) => door.lease(device, requestId, leaseMs);
      const heard = (lease: Lease) => {
        const answers = actor.answers.get(requestId) ?? new Set();
        actor.answers.set(requestId, answers.add(lease.id));
        const untilMs = sentMs + lease.remainingMs;
        actor.believed.set(lease.id, { lease: lease.id, anchor: lease.anchor, untilMs });
        options.onAcknowledged(actor, lease, requestId);
      };
      void insist(0, request, heard);
      if (both) void insist(1, request, heard);
    },
    extend(index, leaseMs) {
      const one = at(index);
      if (one === undefined) return;
      const sentMs = process.nowMs();
      void insist(
        index,
        (door) => door.extend(device, one.lease, leaseMs),
        (lease) => {
          one.untilMs = Math.max(one.untilMs, sentMs + lease.remainingMs);
        },
      );
    },
    free(index) {
      const one = at(index);
      if (one === undefined) return;
      // It ceases, then tells.
      actor.believed.delete(one.lease);
      options.onFreed(one.lease);
      void insist(index, (door) => door.free(device, one.lease));
    },
  };
  return actor;
}
