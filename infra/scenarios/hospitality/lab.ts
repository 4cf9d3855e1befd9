import { setTimeout as delay } from 'node:timers/promises';
import type { Progress } from '../../demo/progress.ts';
import { startFleet } from '../../lab/fleet.ts';
import type { Lab } from '../../lab/lab.ts';
import { createPublicNetwork } from '../../lab/topology.ts';
import { operatorFile } from '../configuration.ts';
import { startGuests } from '../guests.ts';
import type { Share } from '../guests-program.ts';
import type { Scenario, Shown } from '../scenario.ts';

const NAME = 'hospitality';
const GUESTS = 500;
/** They come in waves; most of each wave leaves before the next. */
const WAVE = 100;
const STAYING_OF_A_WAVE = 5;
/** The pool's own life of a lease, and what expiry may be late by. */
const FORGOTTEN_MS = 8_000;
const ONE_MINUTE_MS = 60_000;

export const hospitality: Scenario = {
  name: NAME,
  title: '500 guests come and go within a minute, half of them without a word',
  play,
};

async function play(lab: Lab, progress: Progress): Promise<Shown[]> {
  const { pools } = operatorFile(NAME);
  progress.say(
    `a lobby, a relay with four addresses of brief leases, ${GUESTS} guests with keys of their own`,
  );
  const net = await createPublicNetwork(lab);
  const names = Array.from({ length: GUESTS }, (_, i) => `guest-${i + 1}`);
  const [fleet, lobby] = await Promise.all([
    startFleet(lab, net, { pools, relays: ['r1'], devices: names }),
    net.host('lobby', { address: '198.51.100.60' }),
  ]);
  const guests = await startGuests(lab, fleet, lobby.namespace, NAME);

  const granted: Share[] = [];
  const refused: string[] = [];
  const staying: Share[] = [];
  const startedMs = performance.now();
  let lastLeftMs = startedMs;
  for (let at = 0; at < GUESTS; at += WAVE) {
    const wave = await guests.arrive(names.slice(at, at + WAVE));
    granted.push(...wave.shares);
    refused.push(...wave.refused);
    staying.push(...wave.shares.slice(0, STAYING_OF_A_WAVE));
    const leaving = wave.shares.slice(STAYING_OF_A_WAVE).map(({ name }) => name);
    const half = Math.floor(leaving.length / 2);
    await guests.leave(leaving.slice(0, half), true);
    await guests.leave(leaving.slice(half), false);
    lastLeftMs = performance.now();
    progress.say(`${granted.length} have had a lease, the last ${WAVE} within ${Math.round(wave.tookMs)} ms`);
  }
  const tookMs = Math.round(lastLeftMs - startedMs);
  await delay(FORGOTTEN_MS);
  const report = await guests.report();
  const relay = fleet.relays.get('r1')!;
  const listed = await fleet.mooring(
    relay.host.namespace,
    ...['lease', 'list', '--pool', 'guests', '--config', relay.configFile, '--json'],
  );
  const left = (JSON.parse(listed) as { leases: readonly { readonly id: string }[] }).leases;
  const shares = new Set(granted.map(({ address, firstPort }) => `${address} ${firstPort}`));
  const same = report.held.filter((share) =>
    staying.some((before) => before.lease === share.lease && before.firstPort === share.firstPort),
  );
  return [
    {
      promise: `${GUESTS} guests get a lease within a minute, by token, proof and signalling each`,
      measured: `${granted.length} leases in ${tookMs} ms, ${Math.round((granted.length / tookMs) * ONE_MINUTE_MS)} a minute${refused.length > 0 ? `; ${refused.length} refused, the first: ${refused[0]}` : ''}`,
      kept: granted.length === GUESTS && tookMs <= ONE_MINUTE_MS,
    },
    {
      promise: 'nobody gets the share of one who has just left',
      measured: `${shares.size} different shares for ${granted.length} leases`,
      kept: shares.size === granted.length,
    },
    {
      promise: 'who stays keeps the same share, extended in time',
      measured: `${same.length} of ${staying.length} have theirs, extended ${report.extensions} times`,
      kept:
        same.length === staying.length && report.extensions >= staying.length && report.ended.length === 0,
    },
    {
      promise: `who left is forgotten within ${FORGOTTEN_MS} ms, with a word or without`,
      measured: `${left.length} leases are left, of ${staying.length} guests who stay`,
      kept: left.length === staying.length,
    },
  ];
}
