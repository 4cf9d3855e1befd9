import { bundlePrograms } from '../bundled-programs.ts';

const PROGRAMS = ['relay-process', 'devices-process'] as const;

let bundled: Promise<(name: string) => string> | undefined;

/** The path of a program of this folder, bundled. One file of tests runs at a time, and the next writes it anew. */
export async function programPath(name: (typeof PROGRAMS)[number]): Promise<string> {
  bundled ??= bundlePrograms(
    'chaos',
    PROGRAMS.map((program) => `chaos/${program}.ts`),
  );
  return (await bundled)(name);
}
