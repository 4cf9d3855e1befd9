import { writeFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { cleanStaleLabs, createLab, type Lab } from '../lab/lab.ts';
import { libreswanMissing } from '../lab/libreswan.ts';
import { umlMissing } from '../lab/uml.ts';
import type { Rekey } from './ike.ts';
import { breakBeforeMake, type Move, makeBeforeBreak, natChange, relayChange } from './moves.ts';
import { type Progress, timeline } from './progress.ts';
import { type DemoResult, described, type EngineRecord, peerRecord, relayRecord, table } from './report.ts';
import { type Actor, type EngineWish, PACKETS_PER_SECOND, PEERS, type Stage, setStage } from './stage.ts';
import { faults } from './verdict.ts';

/**
 * `npm run demo`: three devices hold IPsec associations, which unmodified IKE daemons negotiate and renew, with two
 * peers while they change networks and their relay changes. `--json FILE` writes the result, `--keep` leaves the logs behind. Exit status 0 only if every
 * promise was kept. `--engine auto|xdp|userspace` (default auto) is what the relays are to forward with; the result says
 * what did.
 */
const { values } = parseArgs({
  options: {
    engine: { type: 'string', default: 'auto' },
    json: { type: 'string' },
    keep: { type: 'boolean', default: false },
  },
});
const print = (line: string) => process.stdout.write(`${line}\n`);

async function play(lab: Lab, progress: Progress): Promise<DemoResult> {
  const stage = await setStage(lab, progress, values.engine as EngineWish);
  const { actors, traffic } = stage;
  for (const { name, lease, protocol, peer } of actors) {
    progress.say(
      `${name.padEnd(5)}  leased ${lease.address}, association ${protocol.toUpperCase()} by IKE with ${PEERS[peer].address} (${peer})`,
    );
  }
  const engine = await stage.engine();
  progress.say(`the relays forward with ${described(engine)}`);
  await traffic.start();
  progress.say(`${PACKETS_PER_SECOND} packets/s flow each way inside every association`);
  await delay(1_000);

  const moves = new Map<Actor, Move[]>(actors.map((actor) => [actor, []]));
  const take = (taken: ReadonlyMap<Actor, Move>) => {
    for (const [actor, move] of taken) moves.get(actor)!.push(move);
  };
  const rekeys: Rekey[] = [];
  for (const actor of actors) {
    const made = await makeBeforeBreak(stage, actor, progress);
    take(new Map([[actor, made.move]]));
    rekeys.push(...made.rekeys);
  }
  for (const actor of actors) take(new Map([[actor, await breakBeforeMake(stage, actor, progress)]]));
  take(await natChange(stage, progress));
  take(await relayChange(stage, progress));
  await traffic.pause();
  await delay(300);
  return judge(stage, engine, moves, rekeys);
}

async function judge(
  stage: Stage,
  engine: EngineRecord,
  moves: ReadonlyMap<Actor, readonly Move[]>,
  rekeys: readonly Rekey[],
): Promise<DemoResult> {
  const changes = await stage.associationChanges();
  const captures = [...stage.peerCaptures, ...stage.relayCaptures.values()];
  for (const capture of captures) await capture.stop();
  const devices = stage.actors.map((actor) => ({
    name: actor.name,
    lease: actor.lease,
    moves: moves.get(actor) ?? [],
  }));
  const peers = Object.values(PEERS).map(({ address }) => address);
  const peer = peerRecord(
    stage.peerCaptures.flatMap((capture) => capture.frames()),
    peers,
    rekeys,
    changes,
  );
  const relay = relayRecord(
    [...stage.relayCaptures.values()].map((capture) => capture.frames()),
    peers,
  );
  const found = faults(devices, peer, relay);
  const drops = await stage.traffic.socketDrops();
  if (drops > 0)
    found.push(`the probes themselves dropped ${drops} packets: this machine is too slow to measure`);
  const { spisByAddress: _, ...shown } = peer;
  return { ok: found.length === 0, ...engine, devices, peer: shown, relay, faults: found };
}

async function main(): Promise<number> {
  if (!['auto', 'xdp', 'userspace'].includes(values.engine)) {
    print(`demo: --engine ${values.engine}: use auto, xdp or userspace`);
    return 2;
  }
  const missing = umlMissing() ?? libreswanMissing();
  if (missing !== undefined) {
    print(`demo: cannot run here: ${missing}`);
    return 1;
  }
  const progress = timeline(print);
  for (const stale of cleanStaleLabs()) progress.say(`removed what a killed run left behind: ${stale}`);
  const lab = await createLab({ name: 'demo', keepFiles: values.keep });
  try {
    const result = await Promise.race([play(lab, progress), lab.failure]);
    print(table(result));
    if (values.json !== undefined) writeFileSync(values.json, `${JSON.stringify(result, null, 2)}\n`);
    return result.ok ? 0 : 1;
  } catch (error) {
    print(`demo: ${error instanceof Error ? error.stack : String(error)}`);
    return 1;
  } finally {
    await lab.close();
    if (values.keep) print(`logs: ${lab.directory}`);
  }
}

process.exit(await main());
