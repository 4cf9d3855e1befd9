import { fileURLToPath } from 'node:url';
import type { Progress } from '../../demo/progress.ts';
import { controlChannel } from '../../lab/control-channel.ts';
import { startFleet } from '../../lab/fleet.ts';
import type { Lab } from '../../lab/lab.ts';
import { nodeCommand } from '../../lab/node-command.ts';
import { createPublicNetwork } from '../../lab/topology.ts';
import { operatorFile } from '../configuration.ts';
import { startGuests } from '../guests.ts';
import type { Scenario, Shown } from '../scenario.ts';

const NAME = 'enterprise';
const HOSTS = 100;
/** Visitors beyond the hosts: more than the pool still has shares for. */
const VISITORS = 30;
const ECHO = { address: '198.51.100.50', port: 7_000 };
const ANSWERED_WITHIN_MS = 10_000;
/** Addresses of the pool. */
const POOL = ['198.51.100.40', '198.51.100.41'];

export const enterprise: Scenario = {
  name: NAME,
  title: 'a hundred hosts of an office on a pool of two addresses',
  play,
};

async function play(lab: Lab, progress: Progress): Promise<Shown[]> {
  const { pools } = operatorFile(NAME);
  progress.say(`an office, a relay with two addresses, ${HOSTS} hosts with keys of their own`);
  const net = await createPublicNetwork(lab);
  const numbered = (name: string, count: number) =>
    Array.from({ length: count }, (_, i) => `${name}-${i + 1}`);
  const [hosts, visitors] = [numbered('host', HOSTS), numbered('visitor', VISITORS)];
  const [fleet, office, peer] = await Promise.all([
    startFleet(lab, net, { pools, relays: ['r1'], devices: [...hosts, ...visitors] }),
    net.host('office', { address: '198.51.100.60' }),
    net.host('peer', { address: ECHO.address }),
  ]);
  const extension = import.meta.url.endsWith('.ts') ? 'ts' : 'js';
  const program = fileURLToPath(new URL(`../echo-program.${extension}`, import.meta.url));
  const echo = await lab.spawn(peer.namespace, nodeCommand(program, ECHO.address, String(ECHO.port)), {
    label: 'echo',
    control: true,
  });
  const { request } = controlChannel<{ readonly op: 'sources' }>('echo', echo.control!);
  const devices = await startGuests(lab, fleet, office.namespace, NAME, ECHO);

  const arrived = await devices.arrive(hosts);
  progress.say(`${arrived.shares.length} have a lease and a tunnel after ${Math.round(arrived.tookMs)} ms`);
  const answered = await devices.ask(ANSWERED_WITHIN_MS);
  const sources = new Set((await request({ op: 'sources' })) as string[]);
  progress.say(`${answered} were answered through their tunnels`);
  const shares = new Set(arrived.shares.map(({ address, firstPort }) => `${address} ${firstPort}`));
  const strangers = [...sources].filter((source) => !shares.has(source));
  const seen = new Set([...sources].map((source) => source.split(' ')[0]!));

  const beyond = await devices.arrive(visitors);
  const { held, ended } = await devices.report();
  const kept = arrived.shares.filter(({ lease }) => held.some((share) => share.lease === lease)).length;
  progress.say(`then ${VISITORS} visitors: ${beyond.shares.length} got the last shares`);
  return [
    {
      promise: `${HOSTS} hosts have a share of two addresses, each its own`,
      measured: `${arrived.shares.length} leases, ${shares.size} different shares${arrived.refused.length > 0 ? `; refused: ${arrived.refused[0]}` : ''}`,
      kept: arrived.shares.length === HOSTS && shares.size === HOSTS,
    },
    {
      promise: 'each of them is answered through its tunnel, from its own share',
      measured: `${answered} answered; the far side saw ${sources.size} sources, ${strangers.length} of them nobody's`,
      kept: answered === HOSTS && sources.size === HOSTS && strangers.length === 0,
    },
    {
      promise: "the far side sees the pool's addresses and no other",
      measured: `it saw ${[...seen].sort().join(', ')}`,
      kept: [...seen].every((address) => POOL.includes(address)),
    },
    {
      promise: 'when the pool is used up, who comes is told so, and nobody loses what he has',
      measured: `${beyond.shares.length} visitors served, ${beyond.refused.length} refused (${beyond.refused[0] ?? ''}); ${kept} of ${HOSTS} hosts have theirs`,
      kept: beyond.refused.length > 0 && kept === HOSTS && ended.length === 0,
    },
  ];
}
