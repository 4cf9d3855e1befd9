import { setTimeout as delay } from 'node:timers/promises';
import type { Progress } from '../../demo/progress.ts';
import { startFleet } from '../../lab/fleet.ts';
import type { Lab } from '../../lab/lab.ts';
import { createPublicNetwork } from '../../lab/topology.ts';
import { buildBox } from '../box.ts';
import { deviceFile, operatorFile, scenarioFile } from '../configuration.ts';
import type { Scenario, Shown } from '../scenario.ts';
import { listen, talk } from '../talk.ts';

const NAME = 'residential';
const PEER = { address: '198.51.100.50', port: 7_000 };
const FAMILY = { address: '198.51.100.51', port: 0 };
const SESSIONS_A_HOST = 3;
/** From a line that is cut to the next answer of every session: detection, the move, and TCP's own patience. */
const LONGEST_SILENCE_MS = 5_000;

export const residential: Scenario = {
  name: NAME,
  title: 'a household behind one leased address, which stays when the fixed line is cut',
  play,
};

async function play(lab: Lab, progress: Progress): Promise<Shown[]> {
  const { pools } = operatorFile(NAME);
  progress.say(
    'a fixed line and LTE, both behind NATs of their providers; a modem, a box and a LAN of three',
  );
  const net = await createPublicNetwork(lab);
  const [line, lte] = [
    await net.accessNetwork('line', { kind: 'nat-preserving' }),
    await net.accessNetwork('lte', { kind: 'nat-symmetric' }),
  ];
  const modem = await net.device('modem');
  const [fleet, box, dsl0, , peer, family] = await Promise.all([
    startFleet(lab, net, { pools, relays: ['r1'], devices: ['modem'] }),
    buildBox(lab, 'home', modem.namespace, ['laptop', 'tv', 'camera']),
    modem.attach(line, { interface: 'dsl0', metric: 100, delayMs: 5 }),
    modem.attach(lte, { interface: 'lte0', metric: 200, delayMs: 25 }),
    net.host('peer', { address: PEER.address }),
    net.host('family', { address: FAMILY.address }),
  ]);
  const agent = await fleet.agent(modem, deviceFile(NAME));
  const { lease } = await agent.until(
    (status) => status.lease !== null && status.path?.link === 'dsl0',
    'bound on the fixed line',
    30_000,
  );
  await box.take(lease!, scenarioFile(NAME, 'box.nft'));
  progress.say(`the modem leased ${lease!.address}, and the box holds it`);

  const { laptop, tv, camera } = box.hosts as Record<'laptop' | 'tv' | 'camera', (typeof box.hosts)[string]>;
  const server = await listen(lab, peer.namespace, PEER);
  const page = await listen(lab, camera.namespace, { address: camera.address, port: 80 });
  const anyPort = (address: string) => Array.from({ length: SESSIONS_A_HOST }, () => ({ address, port: 0 }));
  const talks = await Promise.all([
    talk(lab, laptop.namespace, PEER, anyPort(laptop.address)),
    talk(lab, tv.namespace, PEER, anyPort(tv.address)),
    talk(lab, family.namespace, { address: lease!.address, port: 8_080 }, [FAMILY]),
  ]);
  const total = 2 * SESSIONS_A_HOST + 1;
  for (const [i, one] of talks.entries()) {
    await one.until(({ alive }) => alive === (i < 2 ? SESSIONS_A_HOST : 1), 10_000);
  }
  const begun = await Promise.all(talks.map((one) => one.report()));
  const alive = begun.reduce((sum, report) => sum + report.alive, 0);
  progress.say(`${alive} of ${total} TCP sessions talk, six from the LAN and one from abroad to the camera`);

  await Promise.all(talks.map((one) => one.mark()));
  await dsl0.cut();
  progress.say('the fixed line is cut');
  const moved = await agent.until(({ path }) => path?.link === 'lte0', 'on LTE');
  progress.say(`LTE carries the household, round trip ${Math.round(moved.path!.rttMs ?? 0)} ms`);
  await Promise.all(talks.map((one) => one.until(({ answers }) => answers > 50, LONGEST_SILENCE_MS)));
  await delay(500);
  const after = await Promise.all(talks.map((one) => one.report()));
  const standing = after.reduce((sum, report) => sum + report.alive, 0);
  const lost = after.flatMap((report) => report.lost);
  const silentMs = Math.round(Math.max(...after.map((report) => report.silentMs)));
  const sources = [...new Set((await server.report()).seen.map(({ address }) => address))];
  const visitors = [...new Set((await page.report()).seen.map(({ address }) => address))];
  const now = (await agent.status()).lease?.address;
  return [
    {
      promise: 'the far side sees the leased address and no other',
      measured: `it saw ${sources.join(', ')}`,
      kept: sources.length === 1 && sources[0] === lease!.address,
    },
    {
      promise: 'a service of the LAN is reached at the leased address, and sees who comes',
      measured: `the camera saw ${visitors.join(', ')}`,
      kept: visitors.length === 1 && visitors[0] === FAMILY.address,
    },
    {
      promise: 'the lease stays when the line is cut',
      measured: `${lease!.address}, then ${now}`,
      kept: now === lease!.address,
    },
    {
      promise: `no TCP session ends by that, and each goes on within ${LONGEST_SILENCE_MS} ms`,
      measured: `${standing} of ${total} stand, longest silence ${silentMs} ms${lost.length > 0 ? `; ${lost.join('; ')}` : ''}`,
      kept: standing === total && lost.length === 0 && silentMs <= LONGEST_SILENCE_MS,
    },
  ];
}
