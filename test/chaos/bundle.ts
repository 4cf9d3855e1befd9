import { bundlePrograms } from '../bundled-programs.ts';

const PROGRAMS = ['relay-process', 'devices-process'] as const;

let bundled: Promise<(name: string) => string> | undefined;

/** The path of a program of this folder, bundled: by each of the workers that run files of tests side by side, for itself. */
export async function programPath(name: (typeof PROGRAMS)[number]): Promise<string> {
  bundled ??= bundlePrograms(
    `chaos-${process.env.VITEST_POOL_ID}`,
    PROGRAMS.map((program) => `chaos/${program}.ts`),
  );
  return (await bundled)(name);
}
