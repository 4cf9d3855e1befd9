import { ReplayWindow } from '../../tunnel/window.ts';

/**
 * - `current`: the incarnation that proved itself
 * - `claimant`: another one, which may prove itself
 * - `retired`: one that another replaced
 */
export type BootStanding = 'current' | 'claimant' | 'retired' | 'replayed';

/** Incarnations that may be at the door at once, and those remembered as replaced: both bounded, oldest forgotten first. */
const CLAIMANTS = 4;
const RETIRED = 16;

/**
 * The incarnations of one session's device, each with its CONTROL replay window. A replaced incarnation does
 * not come back: of two clones the one that proved itself last stays, and they cannot push each other out in turn.
 */
export class DeviceBoots {
  #current = 0n;
  #window = new ReplayWindow();
  readonly #claimants = new Map<bigint, ReplayWindow>();
  readonly #retired = new Set<bigint>();

  /** 0n before the first proof. */
  get current(): bigint {
    return this.#current;
  }

  /** Judges a message of `boot`, and remembers its counter. */
  admit(boot: bigint, counter: bigint): BootStanding {
    if (this.#retired.has(boot)) return 'retired';
    const window = boot === this.#current ? this.#window : this.#claimantWindow(boot);
    const number = Number(counter);
    if (!window.admits(number)) return 'replayed';
    window.commit(number);
    return boot === this.#current ? 'current' : 'claimant';
  }

  /** `boot` proved itself: it is the session's device from now on. */
  promote(boot: bigint): void {
    if (boot === this.#current) return;
    if (this.#current !== 0n) this.retire(this.#current);
    this.#window = this.#claimants.get(boot) ?? new ReplayWindow();
    this.#claimants.delete(boot);
    this.#current = boot;
  }

  retire(boot: bigint): void {
    this.#claimants.delete(boot);
    this.#retired.add(boot);
    if (this.#retired.size > RETIRED) this.#retired.delete(oldest(this.#retired));
  }

  /** Goes on where a former owner of the session stopped. */
  resume(boot: bigint, control: { readonly highest: string; readonly bitmap: string }): void {
    this.#current = boot;
    this.#window = ReplayWindow.import({ highest: Number(control.highest), bitmap: control.bitmap });
  }

  exportWindow(): { readonly highest: string; readonly bitmap: string } {
    const { highest, bitmap } = this.#window.export();
    return { highest: String(highest), bitmap };
  }

  #claimantWindow(boot: bigint): ReplayWindow {
    const known = this.#claimants.get(boot);
    if (known !== undefined) return known;
    if (this.#claimants.size >= CLAIMANTS) this.#claimants.delete(oldest(this.#claimants.keys()));
    const window = new ReplayWindow();
    this.#claimants.set(boot, window);
    return window;
  }
}

function oldest(ordered: Iterable<bigint>): bigint {
  for (const first of ordered) return first;
  return 0n;
}
