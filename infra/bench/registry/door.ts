/** The program as an operator runs it, signalling node and relay in one, and a crowd of devices at its door. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { controlChannel } from '../../lab/control-channel.ts';
import { MOORING } from '../../lab/fleet.ts';
import type { Lab, Namespace } from '../../lab/lab.ts';
import { nodeCommand } from '../../lab/node-command.ts';
import { onlyChildOf } from '../processor.ts';
import { AUDIENCE } from './device-keys.ts';
import type { DevicesCommand, Pace } from './devices.ts';
import type { Taken } from './load.ts';
import type { BenchRedis } from './server.ts';
import { endpointOf, prefixOf } from './space.ts';
import { type Spent, spending } from './spending.ts';

export interface Door {
  /** New devices connect and say hello. */
  arrive(count: number): Promise<Spent>;
  /** So many of those that have arrived, and no longer, get their first lease. */
  lease(count: number, pace: Pace): Promise<Spent>;
  extend(count: number, pace: Pace): Promise<Spent>;
  dismiss(keep: number): Promise<void>;
}

const POOL = 'door';
const ANCHORS = 24;
const DOOR_PORT = 8080;
const ISSUER_PORT = 8081;
/** Below the 64 that a door lets wait from one address. */
const ARRIVING = 48;

export async function startDoor(lab: Lab, host: Namespace, redis: BenchRedis): Promise<Door> {
  await lab.ip(host, [
    'link add pub0 type veth peer name pub1',
    'address add 198.18.255.1/16 dev pub0',
    'link set pub0 up',
    'link set pub1 up',
  ]);
  const url = `ws://127.0.0.1:${DOOR_PORT}/mooring`;
  const config = lab.file('door.json');
  writeFileSync(config, JSON.stringify(configuration(url, redis, lab.file('door'))));
  mkdirSync(lab.file('door'), { mode: 0o700 });
  const program = fileURLToPath(new URL('devices.js', import.meta.url));
  const devices = await lab.spawn(host, nodeCommand(program, url, String(ISSUER_PORT), POOL), {
    label: 'devices',
    control: true,
    mayEnd: true,
  });
  const supervisor = await lab.spawn(host, nodeCommand(MOORING, 'serve', '--config', config), {
    label: 'mooring',
  });
  const { request } = controlChannel<DevicesCommand>('devices', devices.control!);
  await Promise.race([request({ op: 'wait' }), lab.failure]);
  const server = onlyChildOf(supervisor.pid);

  const spent = (command: DevicesCommand) =>
    spending(server, [redis.pid], async () => (await request(command)) as Taken);

  return {
    arrive: (count) => spent({ op: 'arrive', count, width: ARRIVING }),
    lease: (count, pace) => spent({ op: 'lease', count, pace }),
    extend: (count, pace) => spent({ op: 'extend', count, pace }),
    async dismiss(keep) {
      await request({ op: 'dismiss', keep });
    },
  };
}

function configuration(url: string, redis: BenchRedis, dataDir: string): object {
  const issuer = `http://127.0.0.1:${ISSUER_PORT}`;
  return {
    dataDir,
    redisUrl: redis.socket,
    logLevel: 'warn',
    relay: { id: 'r1', interface: 'pub0', engine: 'userspace', announce: 'routed' },
    signalling: {
      listen: { host: '127.0.0.1', port: DOOR_PORT },
      url,
      issuers: [{ issuer, audience: AUDIENCE, jwksUri: `${issuer}/jwks` }],
    },
    pools: [
      {
        name: POOL,
        realm: 'private',
        sharing: 'whole',
        anchors: Array.from({ length: ANCHORS }, (_, n) => ({
          id: `door-${n}`,
          home: 'r1',
          endpoints: [endpointOf(n)],
          prefixes: [prefixOf(n)],
        })),
      },
    ],
  };
}
