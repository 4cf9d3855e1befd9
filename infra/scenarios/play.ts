import { type Progress, timeline } from '../demo/progress.ts';
import { createLab } from '../lab/lab.ts';
import type { Scenario, Shown } from './scenario.ts';

export interface Played {
  readonly shown: readonly Shown[];
  /** Every promise was. */
  readonly kept: boolean;
}

/** Plays it in a lab of its own, and leaves nothing behind but its logs if they are to be kept. */
export async function playScenario(
  scenario: Scenario,
  print: (line: string) => void,
  keepFiles = false,
): Promise<Played> {
  const lab = await createLab({ name: scenario.name, keepFiles });
  const progress: Progress = timeline(print);
  try {
    const shown = await Promise.race([scenario.play(lab, progress), lab.failure]);
    progress.say('played');
    for (const { promise, measured, kept } of shown) {
      print(`${kept ? 'kept  ' : 'BROKEN'}  ${promise}: ${measured}`);
    }
    return { shown, kept: shown.length > 0 && shown.every(({ kept }) => kept) };
  } finally {
    await lab.close();
    if (keepFiles) print(`logs: ${lab.directory}`);
  }
}
