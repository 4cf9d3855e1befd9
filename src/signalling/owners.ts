import { processTimers, type Timers } from '../ownership/timers.ts';
import { MooringError } from '../protocol/errors.ts';
import type { RelayPlane } from '../protocol/relay-plane.ts';
import type { PlaneFor, SignallingRegistry } from './door.ts';

/** A relay that owns an anchor, as this node may ask it. */
export interface OwnerRelay {
  readonly relay: string;
  readonly epoch: bigint;
  readonly plane: RelayPlane;
}

/** Finds and asks the owner relay of an anchor. */
export interface Owners {
  /**
   * Runs `call` at the owner of `anchor`; while the anchor changes hands or its owner does not answer, again, until
   * `withinMs` are over. `call` must be safe to run twice. Throws ERR_MOORING_OWNER_UNREACHABLE (temporary), or at
   * once what the owner refuses for good.
   */
  ask<T>(anchor: string, withinMs: number, call: (owner: OwnerRelay) => Promise<T>): Promise<T>;
}

const RETRY_MS = 100;

interface Known {
  readonly relay: string;
  readonly epoch: bigint;
  /** Monotonic milliseconds: the registry would have named nobody else until then, had nobody given the anchor away. */
  untilMs: number;
}

/**
 * The registry is asked who the owner is where that is not known, where its claim may have run out, and where it has just failed
 * to answer. While the registry is away, the owner it named last is asked: an owner that is none any more refuses by itself.
 */
export function createOwners(
  registry: Pick<SignallingRegistry, 'owner'>,
  planeFor: PlaneFor,
  timers: Timers = processTimers,
): Owners {
  const lastKnown = new Map<string, Known>();

  async function look(anchor: string): Promise<Known> {
    const askedMs = timers.nowMs();
    const owner = await registry.owner(anchor).catch((error: unknown) => {
      const known = lastKnown.get(anchor);
      if (known === undefined) throw error;
      return { ...known, remainingMs: 1 };
    });
    if (owner === null || owner.remainingMs <= 0) {
      lastKnown.delete(anchor);
      throw unreachable(anchor, 'it has no owner');
    }
    const { relay, epoch, remainingMs } = owner;
    const known = { relay, epoch, untilMs: askedMs + remainingMs };
    lastKnown.set(anchor, known);
    return known;
  }

  async function askOwner<T>(anchor: string, call: (owner: OwnerRelay) => Promise<T>): Promise<T> {
    const askKnown = async (known: Known): Promise<T> => {
      const { relay, epoch } = known;
      try {
        return await call({ relay, epoch, plane: await planeFor(relay) });
      } catch (error) {
        known.untilMs = 0;
        throw error;
      }
    };
    const known = lastKnown.get(anchor);
    if (known !== undefined && timers.nowMs() < known.untilMs) {
      try {
        return await askKnown(known);
      } catch (error) {
        // It may have given the anchor away.
        if (isForGood(error)) throw error;
      }
    }
    return askKnown(await look(anchor));
  }

  return {
    async ask(anchor, withinMs, call) {
      let isOver = false;
      let callOff = (): void => undefined;
      const deadline = new Promise<never>((_, reject) => {
        callOff = timers.after(withinMs, () => {
          isOver = true;
          const known = lastKnown.get(anchor);
          if (known !== undefined) known.untilMs = 0;
          reject(unreachable(anchor, `its owner did not answer within ${withinMs} ms`));
        });
      });
      const attempts = async () => {
        for (;;) {
          try {
            return await askOwner(anchor, call);
          } catch (error) {
            if (isOver || isForGood(error)) throw error;
            await new Promise<void>((resolve) => timers.after(RETRY_MS, resolve));
            if (isOver) throw error;
          }
        }
      };
      const answer = attempts();
      // When the deadline wins, nobody is left to hear how the last attempt ended.
      answer.catch(() => {});
      try {
        return await Promise.race([answer, deadline]);
      } finally {
        isOver = true;
        callOff();
      }
    },
  };
}

function isForGood(error: unknown): boolean {
  return error instanceof MooringError && !error.temporary;
}

function unreachable(anchor: string, why: string): MooringError {
  return new MooringError(
    'ERR_MOORING_OWNER_UNREACHABLE',
    `the relay of anchor ${anchor} cannot be asked (${why}); send the same request again`,
    { rsip: 104, temporary: true, retryAfterMs: 1_000, data: { anchor } },
  );
}
