import { setTimeout as delay } from 'node:timers/promises';
import type { Progress } from '../../demo/progress.ts';
import { startFleet } from '../../lab/fleet.ts';
import type { Lab } from '../../lab/lab.ts';
import { createPublicNetwork } from '../../lab/topology.ts';
import { buildBox } from '../box.ts';
import { deviceFile, operatorFile, scenarioFile } from '../configuration.ts';
import type { Scenario, Shown } from '../scenario.ts';
import { listen, talk } from '../talk.ts';
import type { End } from '../talk-program.ts';

const NAME = 'multi-dwelling';
const PEER = { address: '198.51.100.50', port: 7_000 };
const FLATS = ['flat1', 'flat2', 'flat3'] as const;
const HOSTS = ['laptop', 'tv'] as const;
const SESSIONS_A_HOST = 3;
/** After the building's NAT has moved every mapping: the devices' own keep-alives, and TCP's patience. */
const LONGEST_SILENCE_MS = 5_000;
/** Time enough for what must not arrive to arrive. */
const IN_VAIN_MS = 2_000;

export const multiDwelling: Scenario = {
  name: NAME,
  title: 'three flats with LANs of their own, one building, one public address',
  play,
};

async function play(lab: Lab, progress: Progress): Promise<Shown[]> {
  const { pools } = operatorFile(NAME);
  progress.say("a building's network behind one NAT; in each of three flats a device, a box, a LAN of two");
  const net = await createPublicNetwork(lab);
  const building = await net.accessNetwork('building', { kind: 'nat-symmetric' });
  const devices = await Promise.all(FLATS.map((flat) => net.device(flat)));
  const [fleet, peer, boxes] = await Promise.all([
    startFleet(lab, net, { pools, relays: ['r1'], devices: FLATS }),
    net.host('peer', { address: PEER.address }),
    Promise.all(FLATS.map((flat, i) => buildBox(lab, flat, devices[i]!.namespace, HOSTS))),
    (async () => {
      for (const device of devices) {
        await device.attach(building, { interface: 'house0', metric: 100, delayMs: 5 });
      }
    })(),
  ]);
  const agents = await Promise.all(devices.map((device) => fleet.agent(device, deviceFile(NAME))));
  const leases = await Promise.all(
    agents.map(async (agent, i) => {
      const { lease } = await agent.until(
        (status) => status.lease !== null && status.path !== null,
        'bound',
        30_000,
      );
      await boxes[i]!.take(lease!, scenarioFile(NAME, 'box.nft'));
      return lease!;
    }),
  );
  const block = (i: number) => {
    const { first, count } = leases[i]!.ports!;
    return { first, last: first + count - 1 };
  };
  for (const [i, flat] of FLATS.entries()) {
    progress.say(`${flat} leased ${leases[i]!.address}, ports ${block(i).first}–${block(i).last}`);
  }

  const listeners = await Promise.all(
    FLATS.map((_, i) => listen(lab, peer.namespace, { ...PEER, port: PEER.port + i })),
  );
  const talks = await Promise.all(
    boxes.flatMap((box, i) =>
      HOSTS.map((host) => {
        const { namespace, address } = box.hosts[host]!;
        const from = Array.from({ length: SESSIONS_A_HOST }, (): End => ({ address, port: 0 }));
        return talk(lab, namespace, { ...PEER, port: PEER.port + i }, from, 50);
      }),
    ),
  );
  for (const one of talks) await one.until(({ alive }) => alive === SESSIONS_A_HOST, 10_000);
  const total = talks.length * SESSIONS_A_HOST;
  progress.say(`${total} TCP sessions from three LANs that all are 192.168.1.0/24`);

  // The first flat's box itself, from its own last port and from its neighbour's.
  const spare = { ...PEER, port: PEER.port + FLATS.length };
  await listen(lab, peer.namespace, spare);
  const [own, forgery] = [block(0).last, block(1).last];
  const tries = await Promise.all(
    [own, forgery].map((port) =>
      talk(lab, boxes[0]!.namespace, spare, [{ address: leases[0]!.address, port }]),
    ),
  );
  await delay(IN_VAIN_MS);
  const [granted, stolen] = await Promise.all(tries.map(async (one) => (await one.report()).alive));

  await Promise.all(talks.map((one) => one.mark()));
  await building.remap();
  progress.say("the building's NAT gives every flow another port, without a word");
  await Promise.all(talks.map((one) => one.until(({ answers }) => answers > 40, LONGEST_SILENCE_MS)));
  const after = await Promise.all(talks.map((one) => one.report()));
  const alive = after.reduce((sum, report) => sum + report.alive, 0);
  const lost = after.flatMap((report) => report.lost);
  const silentMs = Math.round(Math.max(...after.map((report) => report.silentMs)));
  const seen = await Promise.all(listeners.map(async (one) => (await one.report()).seen));
  const addresses = [...new Set(seen.flat().map(({ address }) => address))];
  const strayed = seen.flatMap((ends, i) =>
    ends.filter(({ port }) => port < block(i).first || port > block(i).last),
  );
  return [
    {
      promise: 'the far side sees one public address for the whole building',
      measured: `it saw ${addresses.join(', ')}`,
      kept: addresses.length === 1 && addresses[0] === leases[0]!.address,
    },
    {
      promise: 'each flat comes from its own ports',
      measured: `${seen.flat().length} sessions seen, ${strayed.length} from ports of another flat`,
      kept: seen.flat().length === total && strayed.length === 0,
    },
    {
      promise: "a flat that sends from its neighbour's ports gets nowhere",
      measured: `${granted} session from its own port ${own}, ${stolen} from ${forgery}`,
      kept: granted === 1 && stolen === 0,
    },
    {
      promise: `no session ends when the building's NAT forgets its ports, and each goes on within ${LONGEST_SILENCE_MS} ms`,
      measured: `${alive} of ${total} stand, longest silence ${silentMs} ms${lost.length > 0 ? `; ${lost.join('; ')}` : ''}`,
      kept: alive === total && lost.length === 0 && silentMs <= LONGEST_SILENCE_MS,
    },
  ];
}
