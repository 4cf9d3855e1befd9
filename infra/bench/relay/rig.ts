/**
 * Three namespaces in a row: a peer, the relay host, a device, joined by veth. All systems live on the one relay
 * host at the same time and are idle while another is measured.
 */
import { randomBytes } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { TUNNEL_PORT } from '../../../src/tunnel/wire.ts';
import { type ControlChannel, controlChannel } from '../../lab/control-channel.ts';
import type { Lab, LabProcess, Namespace } from '../../lab/lab.ts';
import { tail } from '../../lab/lab-process.ts';
import { nodeCommand } from '../../lab/node-command.ts';
import type { EngineHostCommand, EngineHostPlan } from './engine-host.ts';
import type { LoadCommand, LoadPlan } from './load.ts';

const NET = { peer: '198.18.1', device: '198.18.2' } as const;
/** The shared address that is leased in blocks of ports and SPIs. */
const LEASED = '198.18.3.7';
const TUN = 'mooring0';
const TURN_PORT = 3478;
export const PEER_PORT = 9000;
export const DEVICE_PORT = 9001;
/** Sessions with a lease each; one of them carries the traffic. */
export const SESSIONS = 1_000;
const ACTIVE = 500;
const BLOCK = { ports: 32, spis: 256 } as const;

export const ADDRESS = {
  peer: `${NET.peer}.2`,
  relayToPeer: `${NET.peer}.1`,
  relayToDevice: `${NET.device}.1`,
  device: `${NET.device}.2`,
  leased: LEASED,
} as const;

/** Ports and SPI of the lease that carries the traffic. */
export const LEASE = { port: ACTIVE * BLOCK.ports, spi: ACTIVE * BLOCK.spis } as const;

/** The load shares core 0, the relay under test has core 1 for itself: cores of the machine, not of a namespace. */
const CORE = { load: '0', relay: '1' } as const;

export interface Rig {
  readonly peer: ControlChannel<LoadCommand>;
  readonly device: ControlChannel<LoadCommand>;
  readonly mooring: { readonly process: LabProcess; readonly control: ControlChannel<EngineHostCommand> };
  /** `port` is where coturn relays for the device; undefined: it did not start, and why. */
  readonly coturn: { readonly process: LabProcess; readonly port: number } | { readonly reason: string };
}

export async function buildRig(lab: Lab): Promise<Rig> {
  const [peer, relay, device] = await Promise.all([
    lab.namespace('peer'),
    lab.namespace('relay'),
    lab.namespace('device'),
  ]);
  await join(lab, relay, 'peer0', peer, 'net0', NET.peer);
  await join(lab, relay, 'dev0', device, 'net0', NET.device);
  await lab.run(relay, ['sysctl', '-qw', 'net.ipv4.ip_forward=1']);
  await asCards(lab, relay, [peer, device]);

  const load = async (namespace: Namespace, label: string, address: string) => {
    const plan: LoadPlan = { interface: 'net0', address };
    const process = await program<LoadCommand>(lab, namespace, 'load', label, CORE.load, plan);
    return process.control;
  };
  const root = randomBytes(32).toString('hex');
  const [peerLoad, deviceLoad, mooring] = await Promise.all([
    load(peer, 'load peer', ADDRESS.peer),
    load(device, 'load device', ADDRESS.device),
    program<EngineHostCommand>(lab, relay, 'engine-host', 'mooring', CORE.relay, {}),
  ]);
  await mooring.control.request({ op: 'start', plan: enginePlan(root) });
  await lab.ip(relay, [`route add ${LEASED}/32 dev ${TUN}`]);
  await deviceLoad.request({
    op: 'tunnel',
    relay: { address: ADDRESS.relayToDevice, port: TUNNEL_PORT },
    root,
    index: ACTIVE,
  });
  const coturn = await startCoturn(lab, relay, deviceLoad);
  await dropAtSinks(lab, peer, device);
  return { peer: peerLoad, device: deviceLoad, mooring, coturn };
}

async function join(lab: Lab, relay: Namespace, name: string, end: Namespace, far: string, net: string) {
  await lab.ip(relay, [
    `link add ${name} type veth peer name ${far} netns ${end}`,
    `address add ${net}.1/24 dev ${name}`,
    `link set ${name} up`,
  ]);
  await lab.ip(end, [
    `address add ${net}.2/24 dev ${far}`,
    `link set ${far} up`,
    `route add default via ${net}.1`,
  ]);
}

/**
 * veth made to behave as network cards without segmentation of their own: what is sent in one is cut into packets on the
 * sender's account, the relay's too, and the packets of one burst arrive together, so that the kernel behind can join them.
 */
async function asCards(lab: Lab, relay: Namespace, ends: readonly Namespace[]): Promise<void> {
  for (const name of ['peer0', 'dev0']) {
    await lab.run(relay, ['ethtool', '-K', name, 'tx-udp-segmentation', 'off', 'gro', 'on']);
  }
  // veth joins only what comes from an end that could not have sent it as one.
  for (const end of ends)
    await lab.run(end, ['ethtool', '-K', 'net0', 'tx-udp-segmentation', 'off', 'tso', 'off']);
}

export async function program<Command extends object>(
  lab: Lab,
  namespace: Namespace,
  name: string,
  label: string,
  core: string,
  plan: object,
): Promise<{ process: LabProcess; control: ControlChannel<Command> }> {
  const extension = import.meta.url.endsWith('.ts') ? 'ts' : 'js';
  const file = fileURLToPath(new URL(`${name}.${extension}`, import.meta.url));
  const argv = ['taskset', '-c', core, ...nodeCommand(file, JSON.stringify(plan))];
  const process = await lab.spawn(namespace, argv, { label, control: true });
  return { process, control: controlChannel<Command>(label, process.control!) };
}

function enginePlan(activeRoot: string): EngineHostPlan {
  const sessions = Array.from({ length: SESSIONS }, (_, i) => {
    const index = i + 1;
    const id = index.toString(16).padStart(32, '0');
    return {
      id,
      index,
      root: index === ACTIVE ? activeRoot : randomBytes(32).toString('hex'),
      lease: {
        id: `bench.${String(index).padStart(22, '0')}`,
        anchor: 'bench',
        pool: 'bench',
        device: { tenant: 'bench', id: `d${index}` },
        bindId: index,
        kind: 'rsipsec' as const,
        address: LEASED,
        ports: { first: index * BLOCK.ports, count: BLOCK.ports },
        spis: { first: index * BLOCK.spis, count: BLOCK.spis },
        session: id,
        state: 'active' as const,
        remainingMs: 86_400_000,
        fence: '1-1',
      },
    };
  });
  return { tun: TUN, endpoint: ADDRESS.relayToDevice, sessions };
}

async function startCoturn(
  lab: Lab,
  relay: Namespace,
  device: ControlChannel<LoadCommand>,
): Promise<Rig['coturn']> {
  let process: LabProcess | undefined;
  try {
    process = await lab.spawn(
      relay,
      [
        ...[
          'taskset',
          '-c',
          CORE.relay,
          'turnserver',
          '-n',
          '--no-auth',
          '--no-tls',
          '--no-dtls',
          '--no-cli',
        ],
        ...['--listening-ip', ADDRESS.relayToDevice, '--listening-port', String(TURN_PORT)],
        ...['--relay-ip', ADDRESS.relayToPeer, '--min-port', '50000', '--max-port', '50100'],
        ...['--realm', 'bench', '--userdb', lab.file('turn.db'), '--pidfile', lab.file('turn.pid')],
        ...['--log-file', 'stdout', '--simple-log', '--no-software-attribute'],
      ],
      { label: 'coturn' },
    );
    process.expectEnd();
    await delay(1_000);
    if (!process.running) throw new Error('it ended');
    const port = await device.request({
      op: 'turn',
      server: { address: ADDRESS.relayToDevice, port: TURN_PORT },
      peer: { address: ADDRESS.peer, port: PEER_PORT },
    });
    return { process, port: port as number };
  } catch (error) {
    if (process !== undefined && !process.running) {
      return { reason: `coturn ended: ${tail(process.output(), 1)}` };
    }
    return { reason: `coturn: ${error instanceof Error ? error.message.split('\n')[0] : String(error)}` };
  }
}

/** What was relayed is counted at the interface and dropped before any socket: receivers cost next to nothing. */
async function dropAtSinks(lab: Lab, peer: Namespace, device: Namespace): Promise<void> {
  const table = (rules: readonly string[]) =>
    `table ip sink {\n chain arrival {\n type filter hook prerouting priority raw\n ${rules.join('\n ')}\n }\n}\n`;
  await lab.run(peer, ['nft', '-f', '-'], table(['meta l4proto { udp, esp } drop']));
  await lab.run(
    device,
    ['nft', '-f', '-'],
    table([
      `udp sport ${TUNNEL_PORT} @th,64,4 { 1, 2 } drop`,
      `udp sport ${TURN_PORT} @th,64,8 0x40 drop`,
      `udp dport ${DEVICE_PORT} drop`,
      'meta l4proto esp drop',
    ]),
  );
}
