import type { PoolSettings } from '../config/schema.ts';
import { MooringError } from '../protocol/errors.ts';
import type { Roster } from '../registry/pools.ts';
import type { Registry } from '../registry/registry.ts';
import type { Log } from '../telemetry/log.ts';

/** How long a change of pools takes to reach every node at most, milliseconds. */
const LOOK_EVERY_MS = 2_000;
/** A pool of the file that was refused, for what may go away, is declared again so many looks later. */
const LOOKS_AFTER_REFUSAL = 15;

export interface PoolWatch {
  /** As they were last seen. */
  readonly roster: Roster;
  /** Calls `listener` now and after each change. */
  onChange(listener: (roster: Roster) => void): void;
  close(): void;
}

/**
 * Declares the pools of a configuration file, and follows what pools there are, whoever declares them. A pool that is
 * refused, because an operator's has its addresses or leases would lose their shape, is declared again and again, and
 * meanwhile everything else is served: only where there is no pool at all does it throw. A registry that forgets its
 * pools is told again what they were last, and until it has taken that they stay what they were.
 */
export async function watchPools(
  pools: readonly PoolSettings[],
  registry: Pick<Registry, 'declareFile' | 'roster' | 'restore'>,
  log: Log,
): Promise<PoolWatch> {
  const listeners = new Set<(roster: Roster) => void>();
  let refused: MooringError | null = null;
  let looksUntilAgain = 0;

  async function declare(): Promise<void> {
    refused = null;
    await registry.declareFile(pools).catch((error: unknown) => {
      if (!(error instanceof MooringError) || isUnavailable(error)) throw error;
      log.error({ error: error.message }, 'a pool is not what the configuration says');
      refused = error;
      looksUntilAgain = error.temporary ? 0 : LOOKS_AFTER_REFUSAL;
    });
  }

  await declare();
  let roster = (await registry.roster())!;
  if (refused !== null && roster.policies.length === 0) throw refused;
  let looking = false;
  let isForgotten = false;

  async function look(): Promise<void> {
    if (refused !== null) {
      looksUntilAgain -= 1;
      if (looksUntilAgain < 0) await declare();
    }
    let found = await registry.roster(isForgotten ? undefined : roster.revision);
    if (found === null) return;
    // It counts upwards: the registry was emptied, or put back to a backup.
    if (isForgotten || found.revision < roster.revision) {
      if (!isForgotten) log.warn({}, 'the registry has forgotten pools: saying again what they were');
      isForgotten = true;
      await registry.restore(roster, pools).catch((error: unknown) => {
        if (!(error instanceof MooringError) || error.temporary) throw error;
        log.error({ error: error.message }, 'a pool cannot be what it was');
      });
      isForgotten = false;
      found = (await registry.roster())!;
    }
    roster = found;
    for (const listener of listeners) listener(roster);
  }

  const timer = setInterval(() => {
    if (looking) return;
    looking = true;
    look()
      .catch((error: Error) => log.warn({ error: error.message }, 'cannot look for changed pools now'))
      .finally(() => {
        looking = false;
      });
  }, LOOK_EVERY_MS);

  return {
    get roster() {
      return roster;
    },
    onChange(listener) {
      listeners.add(listener);
      listener(roster);
    },
    close: () => clearInterval(timer),
  };
}

function isUnavailable({ code }: MooringError): boolean {
  return code === 'ERR_MOORING_REGISTRY_UNAVAILABLE';
}
