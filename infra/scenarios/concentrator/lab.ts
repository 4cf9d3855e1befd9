import { setTimeout as delay } from 'node:timers/promises';
import type { Progress } from '../../demo/progress.ts';
import { startFleet } from '../../lab/fleet.ts';
import type { Lab, Namespace } from '../../lab/lab.ts';
import { type AccessLink, createPublicNetwork } from '../../lab/topology.ts';
import { deviceFile, operatorFile, scenarioFile } from '../configuration.ts';
import type { Scenario, Shown } from '../scenario.ts';
import { listen, talk } from '../talk.ts';

const NAME = 'concentrator';
const STRANGER = '198.51.100.50';
const SERVER = { address: '10.30.0.10', port: 7_000 };
/** Where the helpdesk reaches a user's machine. */
const HELP_PORT = 9_000;
const USERS = ['ana', 'ben'] as const;
const SESSIONS_A_USER = 4;
/** Of a move with both links up: no session waits for TCP's own patience. */
const LONGEST_SILENCE_MS = 1_000;

export const concentrator: Scenario = {
  name: NAME,
  title: 'roaming users hold private addresses of the company, routed plainly behind the relay',
  play,
};

async function play(lab: Lab, progress: Progress): Promise<Shown[]> {
  const { pools, relay } = operatorFile(NAME);
  progress.say('a home, a cellular network; a relay with one foot in the company; two users');
  const net = await createPublicNetwork(lab);
  const home = await net.accessNetwork('home', { kind: 'nat-preserving' });
  const cellular = await net.accessNetwork('cellular', { kind: 'nat-symmetric' });
  const devices = await Promise.all(USERS.map((user) => net.device(user)));
  const attachAll = devices.map(async (device): Promise<AccessLink> => {
    const wifi = await device.attach(home, { interface: 'wifi0', metric: 100, delayMs: 5 });
    await device.attach(cellular, { interface: 'cell0', metric: 200, delayMs: 25 });
    return wifi;
  });
  const [fleet, stranger] = await Promise.all([
    startFleet(lab, net, { pools, relays: ['c1'], devices: USERS, relaySettings: relay ?? {} }),
    net.host('stranger', { address: STRANGER }),
    Promise.all(attachAll),
  ]);
  const server = await corporateHost(lab, fleet.relays.get('c1')!.host.namespace);
  const agents = await Promise.all(devices.map((device) => fleet.agent(device, deviceFile(NAME))));
  const leased = await Promise.all(
    agents.map(async (agent) => {
      const bound = (status: Awaited<ReturnType<typeof agent.status>>) =>
        status.lease !== null && status.path?.link === 'wifi0';
      return (await agent.until(bound, 'bound on wifi0', 30_000)).lease!.address;
    }),
  );
  for (const [i, user] of USERS.entries()) progress.say(`${user} leased ${leased[i]}`);

  const [ana] = leased as [string, string];
  const [anaHost] = devices.map(({ namespace }) => namespace) as [Namespace, Namespace];
  const listener = await listen(lab, server, SERVER);
  await listen(lab, anaHost, { address: ana, port: HELP_PORT });
  const talks = await Promise.all([
    ...devices.map(({ namespace }, i) =>
      talk(
        lab,
        namespace,
        SERVER,
        Array.from({ length: SESSIONS_A_USER }, () => ({ address: leased[i]!, port: 0 })),
      ),
    ),
    talk(lab, server, { address: ana, port: HELP_PORT }, [{ address: SERVER.address, port: 0 }]),
  ]);
  const expected = [...USERS.map(() => SESSIONS_A_USER), 1];
  for (const [i, one] of talks.entries()) await one.until(({ alive }) => alive === expected[i], 10_000);
  progress.say('both talk with a server of the company; its helpdesk has called ana');

  // As an attacker would: he knows the relay, and routes to it.
  await lab.ip(stranger.namespace, ['route add 10.0.0.0/8 via 198.51.100.11']);
  await listen(lab, stranger.namespace, { address: STRANGER, port: SERVER.port });
  const tries = await Promise.all([
    talk(lab, anaHost, SERVER, [{ address: ana, port: 0 }]),
    talk(lab, anaHost, { address: STRANGER, port: SERVER.port }, [{ address: ana, port: 0 }]),
    talk(lab, stranger.namespace, { address: ana, port: HELP_PORT }, [{ address: STRANGER, port: 0 }]),
    talk(lab, stranger.namespace, SERVER, [{ address: STRANGER, port: 0 }]),
  ]);
  await Promise.all(talks.map((one) => one.mark()));
  for (const link of ['cell0', 'wifi0', 'cell0']) {
    await Promise.all(agents.map((agent) => agent.use(link)));
    await Promise.all(agents.map((agent) => agent.until(({ path }) => path?.link === link, `on ${link}`)));
    progress.say(`both have moved to ${link}`);
    await delay(700);
  }
  const after = await Promise.all(talks.map((one) => one.report()));
  const alive = after.reduce((sum, report) => sum + report.alive, 0);
  const lost = after.flatMap((report) => report.lost);
  const total = expected.reduce((sum, one) => sum + one, 0);
  const silentMs = Math.round(Math.max(...after.map((report) => report.silentMs)));
  const [inside, outside, inward, beyond] = await Promise.all(
    tries.map(async (one) => (await one.report()).alive === 1),
  );
  const sources = [...new Set((await listener.report()).seen.map(({ address }) => address))].sort();
  return [
    {
      promise: 'the company sees its own private addresses, one a user, untranslated',
      measured: `it saw ${sources.join(', ')}`,
      kept: sources.join() === [...leased].sort().join() && leased.every((one) => one.startsWith('10.20.0.')),
    },
    {
      promise: 'a user is reached from inside the company at that address',
      measured: after[2]!.alive === 1 ? 'a session from the server stands' : 'no session from the server',
      kept: after[2]!.alive === 1,
    },
    {
      promise: 'no session ends by three moves of everybody, or falls silent',
      measured: `${alive} of ${total} stand, longest silence ${silentMs} ms of ${LONGEST_SILENCE_MS}${lost.length > 0 ? `; ${lost.join('; ')}` : ''}`,
      kept: alive === total && lost.length === 0 && silentMs <= LONGEST_SILENCE_MS,
    },
    {
      promise:
        'from a corporate address the company is reached and the public network is not, nor the other way round',
      measured: `a user reaches the server: ${inside}, a public host: ${outside}; that host reaches the user: ${inward}, the server: ${beyond}`,
      kept: inside === true && !outside && !inward && !beyond,
    },
  ];
}

/** The company behind the relay: a wire, and a server whose way to roaming users leads there. */
async function corporateHost(lab: Lab, relay: Namespace): Promise<Namespace> {
  const server = await lab.namespace('company');
  await lab.ip(relay, [
    `link add corp0 type veth peer name eth0 netns ${server}`,
    'address add 10.30.0.1/16 dev corp0',
    'link set corp0 up',
  ]);
  await lab.ip(server, [
    `address add ${SERVER.address}/16 dev eth0`,
    'link set eth0 up',
    'route add 10.20.0.0/24 via 10.30.0.1',
  ]);
  await lab.run(relay, ['nft', '-f', '-'], scenarioFile(NAME, 'relay.nft'));
  return server;
}
