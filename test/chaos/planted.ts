import { assembleCommands } from '../../infra/build/lua.ts';
import { COMMANDS } from '../../src/registry/commands.gen.ts';
import type { Commands } from '../../src/registry/connection.ts';
import type { PlantedFault } from './scene.ts';

/** The scripts, with a fault in them that a run's history must show. */
export function commandsWith(planted: PlantedFault | undefined): Commands {
  switch (planted) {
    case undefined:
      return COMMANDS;
    case 'quarantine off':
      return changed('if of[1] and of[1] ~= server then', 'if false then');
    case 'no rest':
      return changed('whole(now + coolingMs), slot', 'whole(now), slot');
    case 'claims that do not wait':
      return changed('if current.relay and current.untilMs > now then', 'if false then');
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
