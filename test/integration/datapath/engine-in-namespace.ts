import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { createSocket, type RemoteInfo, type Socket } from 'node:dgram';
import { once } from 'node:events';
import type { EngineEvent } from '../../../src/datapath/engine-api.ts';
import { startUserspaceEngine } from '../../../src/datapath/userspace/client.ts';
import { hostAddresses } from '../../../src/linux/host-addresses.ts';
import { HandDevice } from '../../unit/datapath/hand-device.ts';
import { ip, lease, udp } from '../../unit/datapath/packets.ts';

/**
 * Runs in a network namespace of its own: the real packet thread between a device's socket and a peer's, all three on
 * this host. Prints what was observed as one line of JSON; the test beside it judges.
 */

const TUN = 'engine0';
const PORT = 4556;
const SHARED = { 4: '203.0.113.7', 6: '2001:db8:7::7' } as const;
const ENDPOINT = { 4: '203.0.113.1', 6: '2001:db8:7::1' } as const;
const ACCESS = { 4: '192.0.2.10', 6: '2001:db8:5::10' } as const;
const PEER = { 4: '198.51.100.9', 6: '2001:db8:9::9' } as const;
const SESSION = '01'.repeat(16);
const root = new Uint8Array(randomBytes(32));

const run = (...args: string[]) => execFileSync('ip', args, { stdio: ['ignore', 'pipe', 'pipe'] }).toString();

/** The next datagrams of a socket, in order; fails after two seconds without one. */
function inbox(socket: Socket) {
  const arrived: { octets: Uint8Array; from: RemoteInfo }[] = [];
  let wake = (): void => {};
  socket.on('message', (octets, from) => {
    arrived.push({ octets: Uint8Array.from(octets), from });
    wake();
  });
  return async (what: string) => {
    const end = Date.now() + 2000;
    while (arrived.length === 0) {
      if (Date.now() > end) throw new Error(`${what}: nothing arrived within 2 s`);
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, 100);
        wake = () => {
          clearTimeout(timer);
          resolve();
        };
      });
    }
    return arrived.shift()!;
  };
}

async function socketAt(family: 4 | 6, address: string, port: number): Promise<Socket> {
  const socket = createSocket(family === 4 ? 'udp4' : 'udp6');
  socket.bind(port, address);
  await once(socket, 'listening');
  return socket;
}

/** What the journey's uplink packet comes to when the peer's address is the relay host's own. */
async function spokenTo(family: 4 | 6, addresses: readonly string[]) {
  await engine.command({ op: 'host-addresses', addresses });
  const device = new HandDevice(root, 5, BigInt(`0x${randomBytes(7).toString('hex')}`) + 1n);
  const access = await socketAt(family, ACCESS[family], 0);
  const fromRelay = inbox(access);
  const send = (octets: Uint8Array) => access.send(octets, PORT, ENDPOINT[family]);
  const hear = async (what: string) => device.take((await fromRelay(what)).octets, Date.now())!;
  send(device.bind());
  await hear('an answer to the first BIND');
  send(device.again());
  send(device.proof(await hear('a challenge')));
  await hear('the end of the rebind');
  send(device.data(ip(SHARED[family], PEER[family], 17, checked(family, udp(1030, 53)))));
  const notice = await hear('a notice');
  access.close();
  return { kind: notice.kind, code: notice.kind === 'notice' ? notice.code : null };
}

async function journey(family: 4 | 6, index: number, relayEvents: EngineEvent[]) {
  const device = new HandDevice(root, index, BigInt(`0x${randomBytes(7).toString('hex')}`) + 1n);
  const access = await socketAt(family, ACCESS[family], 0);
  const peer = await socketAt(family, PEER[family], 53);
  const fromRelay = inbox(access);
  const toPeer = inbox(peer);
  const send = (octets: Uint8Array) => access.send(octets, PORT, ENDPOINT[family]);
  const kinds: string[] = [];
  const sources = new Set<string>();
  const hear = async (what: string) => {
    const { octets, from } = await fromRelay(what);
    sources.add(`${from.address}|${from.port}`);
    const message = device.take(octets, Date.now());
    if (message !== null) kinds.push(message.kind);
    return message;
  };

  send(device.bind());
  await hear('an answer to the first BIND');
  send(device.again());
  const challenge = await hear('a challenge');
  send(device.proof(challenge!));
  await hear('the end of the rebind');

  // Up: an inner packet with its checksum, so that the peer's own kernel delivers it.
  const question = Buffer.from(`question over IPv${family}`);
  send(device.data(ip(SHARED[family], PEER[family], 17, checked(family, udp(1030, 53, question)))));
  const asked = await toPeer('the uplink packet at the peer');
  // Down: the peer answers whom it heard.
  peer.send(Buffer.from('answer'), asked.from.port, asked.from.address);
  await hear('the downlink packet at the device');
  const inner = device.received[0];
  access.close();
  peer.close();
  return {
    kinds,
    sources: [...sources],
    uplink: { from: `${asked.from.address}|${asked.from.port}`, text: Buffer.from(asked.octets).toString() },
    downlink: inner === undefined ? null : Buffer.from(inner).toString('hex'),
    paths: relayEvents.filter(({ type }) => type === 'path').length,
    refused: device.refused,
  };
}

/** A UDP checksum over the pseudo-header: zero is allowed on IPv4 alone. */
function checked(family: 4 | 6, datagram: Uint8Array): Uint8Array {
  if (family === 4) return datagram;
  const carrier = ip(SHARED[6], PEER[6], 17, datagram);
  let sum = 17 + datagram.length;
  for (let i = 8; i < carrier.length; i += 2) sum += (carrier[i]! << 8) | (carrier[i + 1] ?? 0);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  const out = datagram.slice();
  new DataView(out.buffer).setUint16(6, ~sum & 0xffff || 0xffff);
  return out;
}

run('link', 'set', 'lo', 'up');
run('link', 'add', 'lan0', 'type', 'veth', 'peer', 'lan1');
run('link', 'set', 'lan0', 'up');
run('address', 'add', '192.0.2.129/25', 'brd', '+', 'dev', 'lan0');
for (const family of [4, 6] as const) {
  const bits = family === 4 ? '32' : '128';
  for (const address of [ENDPOINT[family], ACCESS[family], PEER[family]]) {
    run('address', 'add', `${address}/${bits}`, 'dev', 'lo', ...(family === 6 ? ['nodad'] : []));
  }
}
const options = { tun: TUN, relayBoot: 0xabcdefn, port: PORT };
const engine = await startUserspaceEngine(options);
for (const family of [4, 6] as const) run('route', 'add', SHARED[family], 'dev', TUN);
const events: EngineEvent[] = [];
engine.onEvent((event) => events.push(event));
await engine.command({
  op: 'anchor',
  anchor: { id: 'a1', endpoints: [ENDPOINT[4], ENDPOINT[6]], epoch: 1n, untilMs: Number.POSITIVE_INFINITY },
});
await engine.command({ op: 'session', anchor: 'a1', session: { id: SESSION, index: 5, root, hint: null } });
for (const address of [SHARED[4], SHARED[6]]) {
  const granted = lease({ kind: 'rsap-ip', address, ports: { first: 1024, count: 64 }, session: SESSION });
  await engine.command({ op: 'lease', anchor: 'a1', lease: granted, untilMs: Number.POSITIVE_INFINITY });
}
const refused = await engine
  .command({ op: 'deadline', anchor: 'nowhere', untilMs: 0 })
  .catch((error) => error.code);
const v4 = await journey(4, 5, events);
const v6 = await journey(6, 5, events);
const counters = await engine.command({ op: 'counters' });

const host = hostAddresses();
const toHost = [await spokenTo(4, host), await spokenTo(6, host)];
const refusedToHost = (await engine.command({ op: 'counters' })).uplink;

const second = await startUserspaceEngine({ ...options, tun: 'engine1' }).catch(
  (error: Error) => error.message,
);
const exits: (Error | null)[] = [];
engine.onExit((error) => exits.push(error));
await engine.close();
await engine.close();
const afterClose = await engine.command({ op: 'counters' }).catch((error) => error.code);
const kept = run('-o', 'link', 'show', TUN).includes(TUN) && run('route', 'show', SHARED[4]).includes(TUN);
const again = await startUserspaceEngine(options);
await again.close();

process.stdout.write(
  `${JSON.stringify({ refused, v4, v6, counters, host, toHost, refusedToHost, second, exits, afterClose, kept, again: true })}\n`,
);
