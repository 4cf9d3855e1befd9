/**
 * Rigs with the whole relay, one in XDP and one in userspace alone: what a packet of a fast flow waits for while slow ones
 * pass too, and how often devices can move. Fast: ESP, which XDP forwards. Slow: UDP of a lease with a policy that only
 * the userspace engine holds.
 */
import { randomBytes } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { TUNNEL_PORT } from '../../../src/tunnel/wire.ts';
import type { ControlChannel } from '../../lab/control-channel.ts';
import type { Lab, Namespace } from '../../lab/lab.ts';
import type { Measurement } from '../rounds.ts';
import { quantile } from './delays.ts';
import type { EngineHostCommand, EngineHostPlan } from './engine-host.ts';
import { indexOf, leaseOf, placeOf, sessionId } from './leases.ts';
import type { LoadCommand, LoadPlan } from './load.ts';
import type { Delays, LoopEndCommand } from './loop-end.ts';
import type { Flow, Traffic } from './packets.ts';
import { program } from './rig.ts';

export const MIXED_CASES = { latency: 'mixed-latency', rebinds: 'rebinds' } as const;

const NET = { peer: '198.18.16', device: '198.18.17' } as const;
const ADDRESS = { peer: `${NET.peer}.2`, endpoint: `${NET.device}.1`, device: `${NET.device}.2` } as const;
const TUN = 'mooring0';
const CORE = { load: '0', relay: '1' } as const;
const FAST = 0;
const SLOW = 1;
/** Sessions of the devices that move, after those two. */
const FIRST_MOVER = 2;
const MOVERS = 128;
const OFFERED = { fast: 40_000, slow: 10_000 } as const;
const OCTETS = 200;
const TIMES = {
  full: { latencyMs: 1_500, rebindsMs: 2_000 },
  quick: { latencyMs: 400, rebindsMs: 800 },
} as const;

interface MixedRig {
  readonly peer: ControlChannel<LoadCommand>;
  readonly device: ControlChannel<LoadCommand>;
  readonly sink: ControlChannel<LoopEndCommand>;
  readonly movers: readonly string[];
}

const SYSTEMS = ['mooring-xdp', 'mooring-userspace'] as const;

export async function mixedMeasurements(
  lab: Lab,
  chosen: readonly string[],
  quick: boolean,
): Promise<Measurement[]> {
  const { latencyMs, rebindsMs } = quick ? TIMES.quick : TIMES.full;
  const wanted = Object.values(MIXED_CASES).filter((name) => chosen.includes(name));
  if (wanted.length === 0) return [];
  const measurements: Measurement[] = [];
  for (const system of SYSTEMS) {
    const rig = await build(lab, system);
    if (wanted.includes(MIXED_CASES.latency)) {
      measurements.push({ system, case: MIXED_CASES.latency, run: () => latency(rig, latencyMs) });
    }
    if (wanted.includes(MIXED_CASES.rebinds)) {
      measurements.push({ system, case: MIXED_CASES.rebinds, run: () => rebinds(rig, rebindsMs) });
    }
  }
  return measurements;
}

async function build(lab: Lab, system: (typeof SYSTEMS)[number]): Promise<MixedRig> {
  const short = system === 'mooring-xdp' ? 'mx' : 'mu';
  const [peer, relay, device] = await Promise.all([
    lab.namespace(`${short}-peer`),
    lab.namespace(`${short}-relay`),
    lab.namespace(`${short}-device`),
  ]);
  await join(lab, relay, 'peer0', peer, NET.peer, '02:00:00:00:03');
  await join(lab, relay, 'dev0', device, NET.device, '02:00:00:00:04');
  await lab.run(relay, ['sysctl', '-qw', 'net.ipv4.ip_forward=1']);
  const load = async (namespace: Namespace, address: string) => {
    const plan: LoadPlan = { interface: 'net0', address };
    const label = `${short} load ${address}`;
    return (await program<LoadCommand>(lab, namespace, 'load', label, CORE.load, plan)).control;
  };
  const [peerLoad, deviceLoad, host, sink] = await Promise.all([
    load(peer, ADDRESS.peer),
    load(device, ADDRESS.device),
    program<EngineHostCommand>(lab, relay, 'engine-host', `${short} relay`, CORE.relay, {}),
    program<LoopEndCommand>(lab, device, 'loop-end', `${short} sink`, CORE.load, {}),
  ]);
  const roots = Array.from({ length: FIRST_MOVER + MOVERS }, () => randomBytes(32).toString('hex'));
  const plan = enginePlan(roots, system === 'mooring-xdp' ? ['peer0', 'dev0'] : undefined);
  await host.control.request({ op: 'start', plan });
  await lab.ip(relay, [`route add ${placeOf(0).address}/32 dev ${TUN}`]);
  const relayAt = { address: ADDRESS.endpoint, port: TUNNEL_PORT };
  for (const lease of [FAST, SLOW]) {
    const index = indexOf(lease);
    await deviceLoad.request({ op: 'tunnel', relay: relayAt, root: roots[lease]!, index });
  }
  await sink.control.request({
    op: 'attach',
    program: 'note_delay',
    mode: 'native',
    interface: 'net0',
  });
  const movers = roots.slice(FIRST_MOVER);
  return { peer: peerLoad, device: deviceLoad, sink: sink.control, movers };
}

async function join(lab: Lab, relay: Namespace, name: string, end: Namespace, net: string, mac: string) {
  await lab.ip(relay, [
    `link add ${name} address ${mac}:01 type veth peer name net0 address ${mac}:02 netns ${end}`,
    `address add ${net}.1/24 dev ${name}`,
    `link set ${name} up`,
    `neighbour replace ${net}.2 lladdr ${mac}:02 dev ${name} nud permanent`,
  ]);
  await lab.ip(end, [
    `address add ${net}.2/24 dev net0`,
    'link set net0 up',
    `route add default via ${net}.1`,
    `neighbour replace ${net}.1 lladdr ${mac}:01 dev net0 nud permanent`,
  ]);
}

function enginePlan(roots: readonly string[], xdp: readonly string[] | undefined): EngineHostPlan {
  const sessions = roots.map((root, lease) => ({
    id: sessionId(lease),
    index: indexOf(lease),
    root,
    lease: {
      ...leaseOf(lease, 'bench'),
      ...(lease === SLOW ? { remote: { address: ADDRESS.peer, port: null } } : {}),
    },
  }));
  return { tun: TUN, endpoint: ADDRESS.endpoint, sessions, ...(xdp === undefined ? {} : { xdp }) };
}

async function latency({ peer, sink }: MixedRig, forMs: number): Promise<Record<string, number>> {
  await sink.request({ op: 'delays' });
  const flows = [
    { flow: flowTo(FAST, 'esp'), packetsPerSecond: OFFERED.fast },
    { flow: flowTo(SLOW, 'udp'), packetsPerSecond: OFFERED.slow },
  ];
  await peer.request({ op: 'mix', flows, octets: OCTETS, forMs });
  await delay(50);
  const { esp, udp } = (await sink.request({ op: 'delays' })) as Delays;
  const us = (counts: readonly number[], share: number) => quantile(counts, share) / 1_000;
  return {
    'fast p50 µs': us(esp, 0.5),
    'fast p99 µs': us(esp, 0.99),
    'slow p50 µs': us(udp, 0.5),
    'slow p99 µs': us(udp, 0.99),
  };
}

function flowTo(lease: number, traffic: Traffic): Flow {
  const { address, port, spi } = placeOf(lease);
  const ends = { source: ADDRESS.peer, destination: address, sourcePort: 9_000, destinationPort: port };
  return { traffic, ...ends, spi };
}

async function rebinds({ device, movers }: MixedRig, forMs: number): Promise<Record<string, number>> {
  const relay = { address: ADDRESS.endpoint, port: TUNNEL_PORT };
  const plan = { relay, roots: movers, firstIndex: indexOf(FIRST_MOVER), forMs };
  const { moves, tookMs } = (await device.request({ op: 'move', ...plan })) as {
    moves: number;
    tookMs: number;
  };
  return { 'rebinds/s': moves / (tookMs / 1_000) };
}
