import { assembleCommands } from '../../infra/build/lua.ts';
import type { Commands } from '../../src/registry/connection.ts';

/** Faults that a run can be given, to see that its history shows them. */
export type PlantedFault = 'no rest' | 'any epoch renews';

/** The scripts, with a fault in them. */
export function commandsWith(planted: PlantedFault): Commands {
  switch (planted) {
    case 'no rest':
      return changed('whole(now + coolingMs), slot', 'whole(now), slot');
    case 'any epoch renews':
      return changed('if current.relay ~= ARGV[1] or current.epoch ~= ARGV[2] then', 'if false then');
    default:
      return planted satisfies never;
  }
}

function changed(from: string, to: string): Commands {
  let places = 0;
  const { commands } = assembleCommands({
    mutate(_, lua) {
      places += lua.split(from).length - 1;
      return lua.replaceAll(from, to);
    },
  });
  if (places === 0) throw new Error(`no script says ${JSON.stringify(from)} any more: plant the fault anew`);
  return commands as unknown as Commands;
}
