import type { DataPath } from './data-path.ts';
import type { World } from './world.ts';

/** Who forwards for the anchor tells a registry that was emptied in time; a relay that is only starting may be late. */
export function tellerOf({ paths, relays }: World, anchor: string): DataPath | undefined {
  const owners = [...relays].filter(
    ([, { process, ownership }]) => process.alive && ownership.owned().has(anchor),
  );
  return owners.map(([id]) => paths.get(id)!).find((path) => path.forwards(anchor));
}

/** Leases that devices believe in, and of which nobody tells the registry. */
export function untoldLeases(world: World): readonly string[] {
  return world.devices
    .flatMap(({ believed }) => [...believed.values()])
    .filter(({ lease, anchor }) => tellerOf(world, anchor)?.anchors.get(anchor)?.leases.has(lease) !== true)
    .map(({ lease }) => lease);
}
