import { setTimeout as delay } from 'node:timers/promises';
import { monotonicMs } from '../../../src/telemetry/clock.ts';
import type { Progress } from '../../demo/progress.ts';
import { startFleet } from '../../lab/fleet.ts';
import type { Lab } from '../../lab/lab.ts';
import { createPublicNetwork } from '../../lab/topology.ts';
import { startTraffic } from '../../lab/traffic.ts';
import { deviceFile, operatorFile } from '../configuration.ts';
import type { Scenario, Shown } from '../scenario.ts';
import { listen, talk } from '../talk.ts';

const NAME = 'sticky';
const PEER = { address: '198.51.100.50', port: 7_000 };
const SESSIONS = 8;
const PACKETS_PER_SECOND = 200;
const GENTLE_MOVES = 10;
const ROUGH_MOVES = 4;
/** Between two moves: a walk along the edge of two cells. */
const BETWEEN_MS = 400;
/** After a link is lost without warning: detection, the move, and TCP's own patience. */
const LONGEST_SILENCE_MS = 5_000;

export const sticky: Scenario = {
  name: NAME,
  title: 'a device keeps changing between two wireless networks, and its sessions stay',
  play,
};

async function play(lab: Lab, progress: Progress): Promise<Shown[]> {
  const { pools } = operatorFile(NAME);
  progress.say('two wireless networks of two providers, a device that is in reach of both');
  const net = await createPublicNetwork(lab);
  const campus = await net.accessNetwork('campus', { kind: 'nat-preserving' });
  const city = await net.accessNetwork('city', { kind: 'nat-symmetric' });
  const walker = await net.device('walker');
  const [fleet, wifi0, wifi1, peer] = await Promise.all([
    startFleet(lab, net, { pools, relays: ['r1'], devices: ['walker'] }),
    walker.attach(campus, { interface: 'wifi0', metric: 100, delayMs: 5 }),
    walker.attach(city, { interface: 'wifi1', metric: 200, delayMs: 12 }),
    net.host('peer', { address: PEER.address }),
  ]);
  const agent = await fleet.agent(walker, deviceFile(NAME));
  const { lease } = await agent.until(
    (status) => status.lease !== null && status.path?.link === 'wifi0',
    'bound on wifi0',
    30_000,
  );
  const { address, ports } = lease!;
  progress.say(`it leased ${address}, ports ${ports!.first}–${ports!.first + ports!.count - 1}`);
  const listener = await listen(lab, peer.namespace, PEER);
  const sessions = await talk(
    lab,
    walker.namespace,
    PEER,
    Array.from({ length: SESSIONS }, (_, i) => ({ address, port: ports!.first + 1 + i })),
  );
  await sessions.until(({ alive }) => alive === SESSIONS, 10_000);
  const traffic = await startTraffic(lab, [
    {
      name: 'walker',
      device: { namespace: walker.namespace, address, port: ports!.first },
      peer: { namespace: peer.namespace, address: peer.address, port: PEER.port },
      packetsPerSecond: PACKETS_PER_SECOND,
    },
  ]);
  await traffic.start();
  await delay(500);
  progress.say(`${SESSIONS} TCP sessions talk, and ${PACKETS_PER_SECOND} datagrams/s each way beside them`);

  await sessions.mark();
  const fromMs = monotonicMs();
  for (let move = 1; move <= GENTLE_MOVES; move += 1) {
    const link = move % 2 === 1 ? 'wifi1' : 'wifi0';
    await agent.use(link);
    await agent.until(({ path }) => path?.link === link, `on ${link}`);
    await delay(BETWEEN_MS);
  }
  const toMs = monotonicMs();
  await delay(200);
  const gentle = (await traffic.measure('walker', { fromMs, toMs })).both;
  const drops = await traffic.socketDrops();
  const calm = await sessions.report();
  progress.say(
    `${GENTLE_MOVES} moves in ${((toMs - fromMs) / 1000).toFixed(1)} s with both networks in reach: ${gentle.lost} of ${gentle.sent} datagrams lost`,
  );

  await sessions.mark();
  const links = { wifi0, wifi1 };
  for (let move = 1; move <= ROUGH_MOVES; move += 1) {
    const from = (await agent.status()).path!.link as keyof typeof links;
    await links[from].cut();
    await agent.until(({ path }) => path !== null && path.link !== from, `off ${from}`);
    await delay(BETWEEN_MS);
    await links[from].up();
    await delay(BETWEEN_MS);
  }
  await sessions.until(({ answers }) => answers > 50, LONGEST_SILENCE_MS);
  const rough = await sessions.report();
  progress.say(
    `${ROUGH_MOVES} times more the network in use was out of reach at once, longest silence ${Math.round(rough.silentMs)} ms`,
  );

  const seen = (await listener.report()).seen;
  const now = (await agent.status()).lease;
  return [
    {
      promise: `no datagram is lost or doubled by ${GENTLE_MOVES} moves while both networks are in reach`,
      measured: `${gentle.lost} of ${gentle.sent} lost, ${gentle.duplicated} doubled; the probes themselves dropped ${drops}`,
      kept: gentle.sent > 0 && gentle.lost === 0 && gentle.duplicated === 0 && drops === 0,
    },
    {
      promise: `every TCP session stands after all ${GENTLE_MOVES + ROUGH_MOVES} moves, silent for ${LONGEST_SILENCE_MS} ms at most`,
      measured: `${rough.alive} of ${SESSIONS} stand, silent for ${Math.round(calm.silentMs)} ms at most in the gentle moves and ${Math.round(rough.silentMs)} ms in the others${rough.lost.length > 0 ? `; ${rough.lost.join('; ')}` : ''}`,
      kept: rough.alive === SESSIONS && rough.lost.length === 0 && rough.silentMs <= LONGEST_SILENCE_MS,
    },
    {
      promise: 'the far side sees one address and the same ports, and no session a second time',
      measured: `it saw ${[...new Set(seen.map((end) => end.address))].join(', ')} and ${seen.length} sessions`,
      kept:
        seen.length === SESSIONS &&
        seen.every(
          (end) =>
            end.address === address && end.port >= ports!.first && end.port < ports!.first + ports!.count,
        ),
    },
    {
      promise: 'the lease is the one that it had',
      measured: `${lease!.id}, then ${now?.id}`,
      kept: now?.id === lease!.id,
    },
  ];
}
