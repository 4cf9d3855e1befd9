import { everythingComesBack } from './comeback.ts';
import { Broken } from './ledger.ts';
import { CALM, linkOf } from './network.ts';
import type { RelayActor } from './relay-actor.ts';
import type { Act, Schedule, Which } from './schedule.ts';
import { unsettled } from './settled.ts';
import { type Ground, World } from './world.ts';

/** What happened, added up over schedules. */
export type Coverage = Record<string, number>;

const BEGIN_MS = 120;
/** Of so many schedules one is under its weather from the first message; the others begin with leases that are being held. */
const ROUGH_BEGINNING_EVERY = 4;
/** How long after the last fault everything must work again. */
const SETTLE_MS = 9_000;
const LOOK_EVERY_MS = 100;
/** Every so many schedules it is seen that each resource can be leased again: that costs as much as a tenth of a schedule. */
const COMEBACK_EVERY = 4;

/** Plays a schedule; throws where a rule breaks. */
export async function play(ground: Ground, { shape: of, steps }: Schedule): Promise<Coverage> {
  const world = new World(ground, of);
  const { scheduler } = world;
  const until = (ms: number) => scheduler.runUntil(scheduler.nowMs + ms);
  try {
    if (world.chance.below(ROUGH_BEGINNING_EVERY) > 0) world.network.weather = CALM;
    await world.begin();
    await until(BEGIN_MS);
    world.devices[0]!.lease('a'.repeat(32), 60_000, false);
    world.devices[1]!.lease('b'.repeat(32), 60_000, false);
    await until(60);
    world.network.weather = of.weather;
    const acts: Coverage = {};
    for (const [at, { afterMs, what }] of steps.entries()) {
      await until(afterMs);
      acts[`act ${what.act}`] = (acts[`act ${what.act}`] ?? 0) + 1;
      await perform(world, what, at);
    }
    await until(150);
    world.judge.tell(() => '── everything works again');
    world.heal();
    const endMs = scheduler.nowMs + SETTLE_MS;
    let missing: string | undefined = 'nothing looked at';
    while (missing !== undefined) {
      await until(LOOK_EVERY_MS);
      missing = unsettled(world);
      if (missing !== undefined && scheduler.nowMs > endMs) throw new Broken(missing);
    }
    world.stop();
    const isSample = world.chance.below(COMEBACK_EVERY) === 0;
    if (isSample) await everythingComesBack(world);
    return { ...acts, ...covered(world), comebacks: isSample ? 1 : 0 };
  } finally {
    world.stop();
    await world.servers.clear();
  }
}

async function perform(world: World, what: Act, at: number): Promise<void> {
  world.judge.tell(() => `── ${JSON.stringify(what)}`);
  const { network, servers, relayIds } = world;
  switch (what.act) {
    case 'lease':
      world.devices[what.device % world.devices.length]!.lease(
        `${at.toString(16).padStart(32, '0')}`,
        what.leaseMs,
        what.both,
      );
      return;
    case 'extend':
      world.devices[what.device % world.devices.length]!.extend(what.which, 60_000);
      return;
    case 'free':
      world.devices[what.device % world.devices.length]!.free(what.which);
      return;
    case 'cut': {
      const links = linksOf(world);
      network.cut(links[what.link % links.length]!, what.silent ? 'silent' : 'refused');
      return;
    }
    case 'isolate': {
      const relay = relayOf(world, what.relay);
      const links = linksOf(world).filter((link) => link.split(' ').includes(relay));
      for (const link of links) network.cut(link, 'silent');
      return;
    }
    case 'part': {
      const relay = relayOf(world, what.relay);
      for (const { id } of servers.list) network.cut(linkOf(relay, id), 'silent');
      return;
    }
    case 'mend':
      for (const link of [...network.cuts.keys()]) network.mend(link);
      return;
    case 'pause': {
      const hosts = [...world.hosts.values()];
      hosts[what.host % hosts.length]!.pause(what.forMs);
      return;
    }
    case 'stall':
      servers.stall(servers.list[what.server % servers.list.length]!, what.forMs);
      return;
    case 'restart':
      world.start(relayOf(world, what.relay), { pinned: what.pinned });
      return;
    case 'lose':
      world.lose(relayOf(world, what.relay), what.withDisk);
      return;
    case 'hand-over': {
      const anchor = world.anchors[what.anchor % world.anchors.length]!;
      const owner = ownerOf(world, anchor);
      const others = relayIds.filter((id) => id !== owner?.id);
      owner?.node.handOver(anchor, others[what.to % others.length]!).catch(() => undefined);
      return;
    }
    case 'fail-over': {
      const hosts = [...world.hosts.keys()].filter((_, bit) => (what.deceived >> bit) & 1);
      await world.cutReplica(what.server);
      world.scheduler.after(what.lagMs, () => world.failOver(what.server, hosts, what.forMs, what.skewMs));
      return;
    }
    case 'empty':
      world.empty(what.server, what.declaredMs);
      return;
    default:
      what satisfies never;
  }
}

function ownerOf({ relays }: World, anchor: string): RelayActor | undefined {
  return [...relays.values()].find(({ ownership }) => ownership.owned().has(anchor));
}

function relayOf(world: World, which: Which): string {
  const { anchors, relayIds } = world;
  const at = which >> 1;
  const owner = which % 2 === 0 ? ownerOf(world, anchors[at % anchors.length]!) : undefined;
  return owner?.id ?? relayIds[at % relayIds.length]!;
}

/** Relays with each server and with each other, doors with each server. */
function linksOf({ relayIds, servers }: World): string[] {
  const ids = servers.list.map(({ id }) => id);
  return [
    ...relayIds.flatMap((relay) => ids.map((id) => linkOf(relay, id))),
    ...relayIds.flatMap((one, at) => relayIds.slice(at + 1).map((other) => linkOf(one, other))),
    ...relayIds.map((relay) => linkOf(relay, 's0')),
    ...ids.map((id) => linkOf('s0', id)),
  ];
}

function covered(world: World): Coverage {
  const { ledger, counts, devices } = world;
  return {
    ...ledger.counts,
    ...counts,
    quarantined: world.judge.quarantined,
    acknowledged: devices.reduce((sum, { answers }) => sum + answers.size, 0),
    retries: devices.reduce((sum, { retries }) => sum + retries, 0),
    steps: world.scheduler.steps,
    simulatedMs: Math.round(world.scheduler.nowMs),
  };
}
