/** What a scenario is: somebody's network, played once with real processes, and what it was held to. */
import type { Progress } from '../demo/progress.ts';
import type { Lab } from '../lab/lab.ts';

/** One promise, and what was measured of it. */
export interface Shown {
  readonly promise: string;
  readonly measured: string;
  readonly kept: boolean;
}

export interface Scenario {
  /** As `npm run scenario -- NAME` says it; its folder, and its page in `docs/scenarios/`. */
  readonly name: string;
  readonly title: string;
  /** Resolves with every promise, kept or not; throws when it could not be played. */
  play(lab: Lab, progress: Progress): Promise<readonly Shown[]>;
}
