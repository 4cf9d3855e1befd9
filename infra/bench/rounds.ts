/** Repetitions in which the systems take turns: what drifts on the machine meanwhile meets all of them. */

export interface Measurement {
  readonly system: string;
  readonly case: string;
  /** One repetition; figures by the name of their metric. */
  readonly run: () => Promise<Readonly<Record<string, number>>>;
}

export interface Rounds {
  /** Repetitions before the counted ones, thrown away. */
  readonly warmUps: number;
  readonly counted: number;
}

/**
 * Runs every measurement once per round, A B C A B C …; cases outermost, so that systems are compared within
 * seconds of each other. Every second round goes backwards: nobody always runs after the same neighbour.
 */
export async function alternate(
  measurements: readonly Measurement[],
  { warmUps, counted }: Rounds,
  take: (measurement: Measurement, figures: Readonly<Record<string, number>>) => void,
  say: (text: string) => void,
): Promise<void> {
  const cases = [...new Set(measurements.map((measurement) => measurement.case))];
  const ordered = cases.flatMap((name) => measurements.filter((measurement) => measurement.case === name));
  for (let round = 0; round < warmUps + counted; round += 1) {
    const isWarmUp = round < warmUps;
    say(isWarmUp ? `warm-up ${round + 1} of ${warmUps}` : `round ${round - warmUps + 1} of ${counted}`);
    for (const measurement of (round - warmUps) % 2 === 0 ? ordered : [...ordered].reverse()) {
      const figures = await measurement.run();
      if (!isWarmUp) take(measurement, figures);
    }
  }
}
