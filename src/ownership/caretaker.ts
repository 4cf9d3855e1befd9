import type { Logger } from 'pino';
import { MooringError } from '../protocol/errors.ts';
import type { Registry } from '../registry/registry.ts';
import { processTimers, type Timers } from './timers.ts';

/** A claim that a relay process held when it was last heard of. */
export interface Claim {
  readonly anchor: string;
  readonly epoch: bigint;
  /** Monotonic milliseconds; forwarding ends then unless it is renewed. */
  readonly untilMs: number;
  /** How long it lasts without renewal, milliseconds. */
  readonly ttlMs: number;
  /** Relay that is to have the anchor when this one does not come back; null: nobody. */
  readonly successor: string | null;
}

export interface CaretakerOptions {
  readonly registry: Pick<Registry, 'renew' | 'transfer' | 'relay'>;
  /** Relay whose claims they are. */
  readonly relay: string;
  /** How long the process may be away before its claims are let go, milliseconds. */
  readonly graceMs: number;
  readonly log: Logger;
  readonly timers?: Timers;
  /** The claim holds until then: what forwards without the process may do so until then. */
  onDeadline(claim: Claim, untilMs: number): void;
  /** About to be given to its successor: nothing may be forwarded or announced here when this is done. */
  onLetGo(claim: Claim): Promise<void>;
}

/**
 * Keeps a relay's claims while its process is away: crashed, hanging, or starting again. It renews and never claims, so
 * the next incarnation, which claims under another epoch, ends its work anchor by anchor. No claim is renewed beyond
 * `graceMs`; then an anchor goes to its successor if that relay is running, else the claim runs out by itself.
 */
export interface Caretaker {
  /** The process is away since `sinceMs` (default: now). Ignored while it already is. */
  begin(claims: Iterable<Claim>, sinceMs?: number): void;
  /** The process is back, and renews by itself. */
  end(): void;
}

/** Renewals within one time to live, as the relay itself does. */
const RENEWALS_PER_TTL = 4;
/** A renewal shorter than this gains nothing. */
const LEAST_MS = 50;

export function createCaretaker(options: CaretakerOptions): Caretaker {
  const { registry, relay, graceMs, log, timers = processTimers } = options;
  /** Of the present absence; another object for each, so that late answers find themselves out of date. */
  let absence: { readonly endsMs: number; readonly claims: Map<string, Claim> } | null = null;
  const cancels = new Set<() => void>();

  function after(delayMs: number, run: () => void): void {
    const cancel = timers.after(delayMs, () => {
      cancels.delete(cancel);
      run();
    });
    cancels.add(cancel);
  }

  async function renew(here: NonNullable<typeof absence>, claim: Claim): Promise<void> {
    const sentMs = timers.nowMs();
    const { ttlMs } = claim;
    const wantedMs = Math.min(ttlMs, here.endsMs - sentMs);
    if (absence !== here || wantedMs < LEAST_MS) return;
    try {
      await registry.renew(claim.anchor, relay, claim.epoch, wantedMs);
      if (absence !== here) return;
      options.onDeadline(claim, Math.max(claim.untilMs, sentMs + wantedMs));
    } catch (error) {
      if (absence !== here) return;
      if (isCode(error, 'ERR_MOORING_STALE_EPOCH')) {
        here.claims.delete(claim.anchor);
        log.info({ anchor: claim.anchor }, 'caretaker: the anchor has another owner or epoch');
        return;
      }
      log.warn({ err: error, anchor: claim.anchor }, 'caretaker: not renewed');
    }
    after(Math.max(0, sentMs + ttlMs / RENEWALS_PER_TTL - timers.nowMs()), () => void renew(here, claim));
  }

  async function letGo(here: NonNullable<typeof absence>): Promise<void> {
    for (const claim of [...here.claims.values()]) {
      if (absence !== here) return;
      const { anchor, successor } = claim;
      try {
        const heir = successor === null ? null : await registry.relay(successor);
        if (absence !== here) return;
        if (heir === null) {
          log.warn({ anchor, epoch: String(claim.epoch) }, 'caretaker: let the claim run out');
          continue;
        }
        here.claims.delete(anchor);
        await options.onLetGo(claim);
        const { epoch } = await registry.transfer(
          anchor,
          relay,
          claim.epoch,
          heir.id,
          heir.boot,
          claim.ttlMs,
        );
        log.warn(
          { anchor, to: heir.id, epoch: String(epoch) },
          'caretaker: gave the anchor to its successor',
        );
      } catch (error) {
        log.error({ err: error, anchor }, 'caretaker: not given to its successor');
      }
    }
  }

  return {
    begin(claims, sinceMs = timers.nowMs()) {
      if (absence !== null) return;
      const here = {
        endsMs: sinceMs + graceMs,
        claims: new Map([...claims].map((claim) => [claim.anchor, claim])),
      };
      absence = here;
      for (const claim of here.claims.values()) void renew(here, claim);
      after(Math.max(0, here.endsMs - timers.nowMs()), () => void letGo(here));
    },
    end() {
      absence = null;
      for (const cancel of cancels) cancel();
      cancels.clear();
    },
  };
}

function isCode(error: unknown, code: string): boolean {
  return error instanceof MooringError && error.code === code;
}
