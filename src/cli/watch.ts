import { setTimeout as delay } from 'node:timers/promises';
import type { Caretaker, Claim } from '../ownership/caretaker.ts';
import type { Registry } from '../registry/registry.ts';
import { monotonicMs } from '../telemetry/clock.ts';
import type { Duty, FromServer, HeldClaim } from './supervision.ts';

/** How long a process may be away before its claims are let go, milliseconds. */
const GRACE_MS = {
  /** The data path forwards meanwhile: nobody misses anything but rebinds. */
  forwarding: 10_000,
  /** Nothing is forwarded meanwhile: somebody else should, as soon as there is somebody. */
  silent: 1_000,
} as const;
/** A claim that lasts less leaves no time to load what renews it, nor has a takeover any for that beside it. */
const SHORT_CLAIM_MS = 5_000;
const REGISTRY_RETRY_MS = 500;
/** The data path believes for some two seconds that somebody holds the sockets. */
const ALIVE_EVERY_MS = 500;
const ALIVE_MS = 2_000;

/** What the supervisor does for an absent process beside starting it again. */
export interface Watch {
  /** The process said what it holds, and what has to be done for it. */
  told(word: Extract<FromServer, { type: 'duty' | 'stands-by' | 'held' | 'released' }>): void;
  /** The process is away since now: crashed, silent, or starting. Ignored while it is. */
  away(): void;
  /** It serves again. */
  back(): void;
  log(level: 'info' | 'warn' | 'error', data: object, message: string): void;
  close(): void;
}

interface Care {
  readonly registry: Registry;
  readonly caretaker: Caretaker;
}

/** What forwards without the process. */
interface PinnedPath {
  /** −Infinity: not at all any more. */
  forwardUntil(anchor: string, untilMs: number): void;
  /** The sockets are open, though nobody reads them now. */
  socketsAreOpen(): void;
}

/** `endProcess` ends a process that may hang, at once: what is let go must not be forwarded by it a moment later. */
export function createWatch({ endProcess }: { endProcess(): void }): Watch {
  const held = new Map<string, HeldClaim>();
  let duty: Duty | null = null;
  let care: Promise<Care> | null = null;
  let awayMs: number | null = null;
  let standsBy = false;
  /** Held by the former process, and not claimed by the present one so far. */
  const unclaimed = new Set<string>();

  /** Loaded when it is needed: most of the time nothing of it is. */
  async function open({ relay, registry: place, logLevel, pins }: Duty): Promise<Care> {
    const [{ createLog }, { openRegistry }, { createCaretaker }] = await Promise.all([
      import('../telemetry/log.ts'),
      import('../registry/open.ts'),
      import('../ownership/caretaker.ts'),
    ]);
    const log = createLog(logLevel, 'mooring-supervisor');
    const path = pins === null ? null : await pinnedPath(pins);
    const registry = await openRegistry({ ...place, name: `supervisor-${process.pid}`, log });
    const caretaker = createCaretaker({
      registry,
      relay: relay.id,
      graceMs: pins === null ? GRACE_MS.silent : GRACE_MS.forwarding,
      log,
      onDeadline: ({ anchor }, untilMs) => path?.forwardUntil(anchor, untilMs),
      async onLetGo({ anchor }) {
        endProcess();
        path?.forwardUntil(anchor, Number.NEGATIVE_INFINITY);
        // Two relays must not answer for one address.
        const claim = held.get(anchor);
        const { createAnnouncer } = await import('../relay/announcer.ts');
        if (claim !== undefined) createAnnouncer({ ...relay, log }).withdraw(claim);
      },
    });
    return { registry, caretaker };
  }

  const mayBeShort = () => standsBy || [...held.values()].some(({ ttlMs }) => ttlMs < SHORT_CLAIM_MS);
  /** Loads what renews claims, where they leave no time for it later. */
  function prepareIfShort(): void {
    if (duty !== null && mayBeShort()) prepared(duty).catch(() => undefined);
  }

  function prepared(what: Duty): Promise<Care> {
    if (care !== null) return care;
    const opening = open(what);
    care = opening;
    opening.catch((error: Error) => {
      write('error', { error: error.message }, 'the claims cannot be kept while the process is away');
      if (care === opening) care = null;
    });
    return opening;
  }

  async function keepClaims(what: Duty, sinceMs: number): Promise<void> {
    while (awayMs === sinceMs) {
      try {
        const { caretaker } = await prepared(what);
        if (awayMs === sinceMs) caretaker.begin([...held.values()].map(claimOf), sinceMs);
        return;
      } catch {
        await delay(REGISTRY_RETRY_MS);
      }
    }
  }

  async function keepSockets(pins: string, sinceMs: number): Promise<void> {
    const path = await pinnedPath(pins);
    while (awayMs === sinceMs) {
      path.socketsAreOpen();
      await delay(ALIVE_EVERY_MS);
    }
  }

  function dismiss(): void {
    const former = care;
    care = null;
    former?.then(
      ({ registry, caretaker }) => {
        caretaker.end();
        return registry.close();
      },
      () => undefined,
    );
  }

  return {
    told(word) {
      switch (word.type) {
        case 'duty': {
          const { duty: next } = word;
          for (const anchor of held.keys()) unclaimed.add(anchor);
          if (JSON.stringify(duty) !== JSON.stringify(next)) {
            duty = next;
            if (awayMs === null) dismiss();
          }
          prepareIfShort();
          return;
        }
        case 'stands-by':
          standsBy = true;
          prepareIfShort();
          return;
        case 'held':
          unclaimed.delete(word.claim.anchor);
          held.set(word.claim.anchor, word.claim);
          prepareIfShort();
          return;
        case 'released':
          held.delete(word.anchor);
          return;
        default:
          word satisfies never;
      }
    },
    away() {
      if (awayMs !== null || duty === null || held.size === 0) return;
      awayMs = monotonicMs();
      void keepClaims(duty, awayMs);
      if (duty.pins !== null) void keepSockets(duty.pins, awayMs);
    },
    back() {
      for (const anchor of unclaimed) held.delete(anchor);
      unclaimed.clear();
      if (awayMs === null) return;
      awayMs = null;
      if (!mayBeShort()) {
        dismiss();
        return;
      }
      care?.then(
        ({ caretaker }) => caretaker.end(),
        () => undefined,
      );
    },
    log: write,
    close() {
      awayMs = null;
      dismiss();
    },
  };
}

async function pinnedPath(pins: string): Promise<PinnedPath> {
  const [{ writeDeadline }, { writeAlive }, { boottimeOf }] = await Promise.all([
    import('../datapath/xdp/deadline.ts'),
    import('../datapath/xdp/alive.ts'),
    import('../datapath/xdp/clock.ts'),
  ]);
  const attempt = (what: string, step: () => unknown) => {
    try {
      step();
    } catch (error) {
      write('error', { pins, error: String(error) }, `${what} is not written`);
    }
  };
  return {
    forwardUntil: (anchor, untilMs) =>
      attempt('deadline', () => writeDeadline(pins, anchor, boottimeOf(untilMs))),
    socketsAreOpen: () =>
      attempt('sign of life', () => writeAlive(pins, boottimeOf(monotonicMs() + ALIVE_MS))),
  };
}

function claimOf({ anchor, epoch, untilMs, ttlMs, successor }: HeldClaim): Claim {
  return { anchor, epoch: BigInt(epoch), untilMs, ttlMs, successor };
}

const LEVELS = { info: 30, warn: 40, error: 50 } as const;

/** One line in the form of the logger's, which the supervisor does not load for the few that it writes. */
function write(level: keyof typeof LEVELS, data: object, message: string): void {
  const line = { level: LEVELS[level], time: Date.now(), name: 'mooring-supervisor', ...data, msg: message };
  process.stderr.write(`${JSON.stringify(line)}\n`);
}
