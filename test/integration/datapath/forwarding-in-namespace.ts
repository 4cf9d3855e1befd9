import { execFileSync, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { startUserspaceEngine, type UserspaceEngineOptions } from '../../../src/datapath/userspace/client.ts';
import { openUdp } from '../../../src/linux/udp.ts';
import { socketAddress } from '../../../src/protocol/address.ts';
import { setTrafficClass } from '../../../src/tunnel/dscp-ecn.ts';
import { INNER_MTU } from '../../../src/tunnel/wire.ts';
import { HandDevice } from '../../unit/datapath/hand-device.ts';
import { ip, lease, udp } from '../../unit/datapath/packets.ts';

/**
 * Runs in a network namespace of its own, with the peer in another one behind a veth: what the kernel's forwarding
 * between public interface and TUN device does for the engine. Prints what was observed as one line of JSON.
 */

const TUN = 'engine0';
const PORT = 4556;
const ENDPOINT = '203.0.113.1';
const ACCESS = '192.0.2.10';
const ONE = { 4: '203.0.113.7', 6: '2001:db8:7::7' } as const;
const TWO = { 4: '203.0.113.8', 6: '2001:db8:7::8' } as const;
const ROUTER = { 4: '198.51.100.1', 6: '2001:db8:9::1' } as const;
const PEER = { 4: '198.51.100.9', 6: '2001:db8:9::9' } as const;
const FAMILIES = [4, 6] as const;

const LARGER_MTU = 1400;
const EF = 46;
const MARKING = {
  ingress: { mode: 'rewrite', value: 10 },
  egress: { mode: 'keep', value: 0 },
  ecn: 'normal',
} as const;

const run = (...args: string[]) =>
  execFileSync(args[0]!, args.slice(1), { stdio: ['ignore', 'pipe', 'pipe'], timeout: 20_000 }).toString();
const set = (name: string, value: string) => run('sysctl', '-qw', `${name}=${value}`);

const holder = spawn('unshare', ['--net', 'sleep', '60'], { stdio: 'ignore' });
const there = (...args: string[]) => run('nsenter', '-t', String(holder.pid), '-n', ...args);
await waitFor(
  'the namespace of the peer',
  () => there('readlink', '/proc/self/ns/net') !== run('readlink', '/proc/self/ns/net'),
);

async function waitFor(what: string, holds: () => boolean): Promise<void> {
  for (let tries = 0; tries < 500; tries += 1) {
    if (holds()) return;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  throw new Error(`${what}: not within 5 s`);
}

run('ip', 'link', 'set', 'lo', 'up');
run('ip', 'link', 'add', 'public0', 'type', 'veth', 'peer', 'name', 'peer0', 'netns', String(holder.pid));
run('ip', 'link', 'set', 'public0', 'up');
there('ip', 'link', 'set', 'lo', 'up');
there('ip', 'link', 'set', 'peer0', 'up');
for (const address of [ENDPOINT, ACCESS]) run('ip', 'address', 'add', `${address}/32`, 'dev', 'lo');
for (const family of FAMILIES) {
  const [bits, dad] = family === 4 ? ['24', []] : ['64', ['nodad']];
  run('ip', 'address', 'add', `${ROUTER[family]}/${bits}`, 'dev', 'public0', ...dad);
  there('ip', 'address', 'add', `${PEER[family]}/${bits}`, 'dev', 'peer0', ...dad);
  there('ip', `-${family}`, 'route', 'add', 'default', 'via', ROUTER[family]);
}
set('net.ipv4.ip_forward', '1');
set('net.ipv6.conf.all.forwarding', '1');
set('net.ipv4.conf.all.send_redirects', '0');

const root = new Uint8Array(randomBytes(32));
const untilMs = Number.POSITIVE_INFINITY;

/** An engine with its anchor, and the leased addresses routed to it. */
async function serve(options: Partial<UserspaceEngineOptions>) {
  const common = { tun: TUN, relayBoot: 0xabcdefn, port: PORT, persist: false };
  const engine = await startUserspaceEngine({ ...common, ...options });
  set(`net.ipv4.conf.${TUN}.send_redirects`, '0');
  for (const family of FAMILIES) {
    for (const address of [ONE[family], TWO[family]])
      run('ip', `-${family}`, 'route', 'add', address, 'dev', TUN);
  }
  await engine.command({ op: 'anchor', anchor: { id: 'a1', endpoints: [ENDPOINT], epoch: 1n, untilMs } });
  return engine;
}

let engine = await serve({});

/** A connected device with a share of each leased address. */
async function connect(index: number, port: number) {
  const session = index.toString(16).padStart(32, '0');
  await engine.command({ op: 'session', anchor: 'a1', session: { id: session, index, root, hint: null } });
  for (const family of FAMILIES) {
    for (const address of [ONE[family], TWO[family]]) {
      const granted = lease({ kind: 'rsap-ip', address, ports: { first: port, count: 64 }, session });
      await engine.command({ op: 'lease', anchor: 'a1', lease: granted, untilMs });
    }
  }
  const device = new HandDevice(root, index, BigInt(index) + 77n);
  const socket = openUdp({ family: 4, port: 0, address: ACCESS, trafficClass: true });
  const messages: ReturnType<HandDevice['take']>[] = [];
  /** Outer DSCP and ECN of the DATA received. */
  const outer: number[] = [];
  const drain = () => {
    const count = socket.receive();
    for (let i = 0; i < count; i += 1) {
      const octets = socket.buffer.slice(socket.at(i), socket.at(i) + socket.length(i));
      const message = device.take(octets, Date.now());
      if (message !== null) messages.push(message);
      else outer.push(socket.trafficClass(i));
    }
  };
  const relay = socketAddress(ENDPOINT, PORT);
  const send = (octets: Uint8Array, octet = 0) => {
    socket.queue(relay, octets, 0, octets.length, undefined, octet);
    socket.flush();
  };
  const hear = async (what: string) => {
    await waitFor(what, () => {
      drain();
      return messages.length > 0;
    });
    return messages.shift()!;
  };
  send(device.bind());
  await hear('an answer to the first BIND');
  send(device.again());
  send(device.proof(await hear('a challenge')));
  await hear('the end of the rebind');
  const arrival = async (what: string, wanted = 1) => {
    await waitFor(what, () => {
      drain();
      return device.received.length >= wanted;
    });
    return device.received.splice(0).map((packet) => Buffer.from(packet).toString('hex'));
  };
  return {
    socket,
    arrival,
    outer,
    data: (packet: Uint8Array, octet = 0) => send(device.data(packet), octet),
  };
}

let ann = await connect(5, 1024);
let bob = await connect(6, 1088);

// Hairpin: between two leased addresses, and between two shares of one.
const hairpin: Record<string, { sent: string; got: string[] }> = {};
for (const family of FAMILIES) {
  for (const [name, to] of [
    [`IPv${family}, two addresses`, TWO[family]],
    [`IPv${family}, one address`, ONE[family]],
  ] as const) {
    const packet = ip(ONE[family], to, 17, udp(1030, 1090, new TextEncoder().encode(`over ${name}`)));
    ann.data(packet);
    hairpin[name] = { sent: Buffer.from(packet).toString('hex'), got: await bob.arrival(`hairpin, ${name}`) };
  }
}

// A peer behind a larger link: what it learns of the path, and what the device gets when it may be fragmented.
const PROBE = `
import socket, sys, time
family, to, inner = sys.argv[1], sys.argv[2], int(sys.argv[3])
v4 = family == '4'
s = socket.socket(socket.AF_INET if v4 else socket.AF_INET6, socket.SOCK_DGRAM)
level, discover, mtu = (0, 10, 14) if v4 else (41, 23, 24)
s.connect((to, 1090))
if v4:
  s.setsockopt(level, discover, 0)
  s.send(b'z' * 1440)
s.setsockopt(level, discover, 2)
s.send(b'x' * 1440)
end = time.time() + 2
while time.time() < end and s.getsockopt(level, mtu) == 1500: time.sleep(0.01)
print(s.getsockopt(level, mtu))
s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
s.setsockopt(level, discover, 0)
s.send(b'y' * (inner - 28 if v4 else inner - 48))
if not v4: s.send(b'z' * 1440)
`;
async function probe(innerMtu: number) {
  const found: Record<string, { mtu: number; got: string[] }> = {};
  for (const family of FAMILIES) {
    there('ip', `-${family}`, 'route', 'flush', 'cache');
    const mtu = Number(there('python3', '-c', PROBE, String(family), ONE[family], String(innerMtu)));
    found[`IPv${family}`] = { mtu, got: await bob.arrival(`what the peer sent over IPv${family}`, 3) };
  }
  return found;
}
const probes = await probe(INNER_MTU);

// A smaller link behind the relay: the device hears of it.
run('ip', 'link', 'set', 'public0', 'mtu', '1280');
run('ip', 'route', 'add', `${PEER[4]}/32`, 'dev', 'public0', 'mtu', 'lock', '1000');
const tooBig = ip(ONE[4], PEER[4], 17, udp(1030, 53, new Uint8Array(1100)), { dontFragment: true });
ann.data(tooBig);
const smaller = await ann.arrival('an error about a smaller link');
// Traceroute: the first router answers.
ann.data(ip(ONE[4], PEER[4], 17, udp(1030, 53), { ttl: 1 }));
const traced = await ann.arrival('time exceeded');

const counters = await engine.command({ op: 'counters' });
await engine.close();
ann.socket.close();
bob.socket.close();

// The same with another inner MTU, and other rules for what the headers show.
run('ip', 'link', 'set', 'public0', 'mtu', '1500');
engine = await serve({ mtu: LARGER_MTU, marking: MARKING });
ann = await connect(5, 1024);
bob = await connect(6, 1088);
const larger = await probe(LARGER_MTU);

// DSCP and ECN, outside and inside, on their way through both kernels.
const marks: Record<string, { inner: string; outer: number }> = {};
for (const family of FAMILIES) {
  const packet = ip(ONE[family], TWO[family], 17, udp(1030, 1090));
  setTrafficClass(packet, 0, (EF << 2) | 2);
  bob.outer.length = 0;
  ann.data(packet, 3);
  const [inner = ''] = await bob.arrival(`a marked packet, IPv${family}`);
  marks[`IPv${family}`] = { inner, outer: bob.outer[0]! };
}

await engine.close();
ann.socket.close();
bob.socket.close();
holder.kill();
process.stdout.write(
  `${JSON.stringify({ hairpin, probes, tooBig: Buffer.from(tooBig).toString('hex'), smaller, traced, marks, larger, counters })}\n`,
);
