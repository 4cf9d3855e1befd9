import type { World } from './world.ts';

/** What does not hold yet that must come to hold once everything works. */
export function unsettled(world: World): string | undefined {
  const { ledger, serverOf } = world;
  const paths = [...world.paths.values()];
  for (const anchor of world.anchors) {
    if (!ledger.page(anchor, serverOf(anchor).current).settled) return `${anchor} stays in quarantine`;
    const forwarding = paths.filter((path) => path.forwards(anchor));
    const owner = [...world.relays.values()].find((relay) => relay.ownership.owned().has(anchor));
    if (forwarding.length !== 1 || owner?.id !== forwarding[0]?.host.id)
      return `nobody forwards for ${anchor}`;
  }
  for (const { device, believed, process } of world.devices) {
    for (const { lease, anchor, untilMs } of believed.values()) {
      if (untilMs < process.nowMs() + 200 || world.freed.has(lease) || world.untold.has(lease)) continue;
      if (paths.some((path) => path.forwardsLease(anchor, lease))) continue;
      if (hasNoWitness(world, anchor)) continue;
      return `${lease} of ${device.id}, acknowledged, is not forwarded`;
    }
  }
  return undefined;
}

/** Nobody who lives, and no server that answers, knows what a fail-over lost of the anchor. */
function hasNoWitness({ forgot, losses, serverOf }: World, anchor: string): boolean {
  const server = serverOf(anchor).id;
  return losses.some((loss) => loss.server === server && forgot.some(({ atMs }) => atMs >= loss.cutMs));
}
