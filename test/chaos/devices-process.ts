/**
 * Devices behind a signalling node of their own: each asks for leases, extends, attaches and frees, again and again
 * until it is answered, through the same handlers that a socket's frames go through.
 */
import { randomBytes } from 'node:crypto';
import { setTimeout as wait } from 'node:timers/promises';
import type { Lease } from '../../src/protocol/lease.ts';
import { attach } from '../../src/signalling/requests/attach.ts';
import { extend } from '../../src/signalling/requests/extend.ts';
import { free } from '../../src/signalling/requests/free.ts';
import { lease } from '../../src/signalling/requests/lease.ts';
import { monotonicMs } from '../../src/telemetry/clock.ts';
import { callerOf, openDoor, persist } from './door.ts';
import { factsOf, type LeaseFacts, type Operation, recordIn } from './history.ts';
import { numbersFrom } from './random.ts';
import type { Scene } from './scene.ts';

const [sceneText = '', name = '', countText = '', seedText = ''] = process.argv.slice(2);
const scene = JSON.parse(sceneText) as Scene;
process.on('disconnect', () => process.exit(1));
let going = true;
process.on('message', () => {
  going = false;
});

/** Sendings of one request. */
const SENDINGS = 24;

const recorder = recordIn(scene.folder, name);
const door = await openDoor(scene, name, recorder);

function* sendings(): Iterable<number> {
  for (let sending = 1; sending <= SENDINGS && going; sending += 1) yield sending;
}

async function live(device: string, seed: number): Promise<void> {
  const { below } = numbersFrom(seed);
  let caller = await callerOf(device);
  const held = new Map<string, { lease: Lease; untilMs: number }>();
  let frame = 0;
  const keep = (one: Lease) => held.set(one.id, { lease: one, untilMs: monotonicMs() + one.remainingMs });

  async function ask(
    op: Operation['op'],
    about: LeaseFacts | undefined,
    send: () => Promise<{ readonly lease?: Lease }>,
  ): Promise<void> {
    const asked = { op, device: `t/${device}`, ...(op === 'extend' ? { leaseMs: scene.leaseMs } : {}) };
    const answer = await persist(recorder, asked, about, sendings, send);
    if (answer.outcome === 'refused' && about !== undefined) held.delete(about.id);
    if (answer.lease !== undefined) keep(answer.lease);
  }

  while (going) {
    for (const [id, { untilMs }] of held) if (untilMs - monotonicMs() < 1_000) held.delete(id);
    const all = [...held.values()];
    const one = all[below(all.length || 1)]?.lease;
    const dice = below(10);
    frame += 1;
    const id = frame;
    if (one === undefined || (all.length < 2 && dice < 4)) {
      const pool = below(2) === 0 ? 'whole' : 'shared';
      const kind = pool === 'whole' ? 'rsa-ip' : 'rsipsec';
      const request = randomBytes(16).toString('hex');
      await ask('lease', undefined, () => lease({ type: 'lease', id, request, pool, kind }, caller, door));
    } else if (dice < 7) {
      await ask('extend', factsOf(one), () => extend({ type: 'extend', id, lease: one.id }, caller, door));
    } else if (dice < 8) {
      // Every other time with another key: its session is replaced.
      if (below(2) === 0) caller = await callerOf(device);
      await ask('attach', factsOf(one), () => attach({ type: 'attach', id, lease: one.id }, caller, door));
    } else {
      held.delete(one.id);
      await ask('free', factsOf(one), () =>
        free({ type: 'free', id, lease: one.id }, caller, door).then(() => ({})),
      );
    }
    await wait(below(60));
  }
}

process.send?.('up');
const seed = Number(seedText);
await Promise.all(
  Array.from({ length: Number(countText) }, (_, at) => live(`${name}-${at + 1}`, seed * 1_000 + at)),
);
process.exit(0);
