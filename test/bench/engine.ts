import { createEngine } from '../../src/datapath/userspace/engine.ts';
import { DATA } from '../../src/tunnel/wire.ts';
import { at, HandDevice } from '../unit/datapath/hand-device.ts';
import { esp, ip, lease, udp } from '../unit/datapath/packets.ts';

/**
 * Packets a second of the packet engine alone, one thread, without system calls: tag, window, decision, counters.
 * `node --import tsx test/bench/engine.ts` prints one line of JSON per case.
 */

const ENDPOINT = '203.0.113.1';
const SHARED = '203.0.113.7';
const PEER = '198.51.100.9';
const PATH = at('192.0.2.10', 40_000);
const SESSIONS = 1000;
const RUN_MS = 400;
const RUNS = 7;

const outbox: Uint8Array[] = [];
let forwarded = 0;
let keep = true;
const engine = createEngine({
  relayBoot: 7n,
  random: (octets) => crypto.getRandomValues(new Uint8Array(octets)),
  io: {
    toDevice(_endpoint, _to, buffer, from, length) {
      if (keep) outbox.push(buffer.slice(from, from + length));
      else forwarded += 1;
    },
    toNetwork: () => {
      forwarded += 1;
    },
    event: () => {},
  },
});

engine.command({ op: 'anchor', anchor: { id: 'a', endpoints: [ENDPOINT], epoch: 1n, untilMs: 1e12 } }, 0);
const devices = Array.from({ length: SESSIONS }, (_, i) => connect(i + 1));
keep = false;

function connect(index: number): HandDevice {
  const root = crypto.getRandomValues(new Uint8Array(32));
  const id = index.toString(16).padStart(32, '0');
  engine.command({ op: 'session', anchor: 'a', session: { id, index, root, hint: null } }, 0);
  const granted = lease({
    kind: 'rsipsec',
    address: SHARED,
    ports: { first: index * 32, count: 32 },
    spis: { first: index * 256, count: 256 },
    session: id,
  });
  engine.command({ op: 'lease', anchor: 'a', lease: granted, untilMs: 1e12 }, 0);
  engine.tick(0);
  const device = new HandDevice(root, index, BigInt(index));
  const send = (octets: Uint8Array) => engine.datagram(ENDPOINT, PATH, octets, 0, octets.length, 0);
  send(device.bind());
  for (const octets of outbox.splice(0)) device.take(octets, 0);
  send(device.again());
  for (const octets of outbox.splice(0)) {
    const message = device.take(octets, 0);
    if (message?.kind === 'challenge') send(device.proof(message));
  }
  for (const octets of outbox.splice(0)) device.take(octets, 0);
  return device;
}

/** Runs `once` (which handles `packets` packets) for RUN_MS, RUNS times after a warm-up; the median a second. */
function measure(packets: number, prepare: () => void, once: () => void): number {
  const rates: number[] = [];
  for (let run = 0; run <= RUNS; run += 1) {
    let spentMs = 0;
    let done = 0;
    while (spentMs < RUN_MS) {
      prepare();
      const startMs = performance.now();
      once();
      spentMs += performance.now() - startMs;
      done += packets;
    }
    if (run > 0) rates.push((done / spentMs) * 1000);
  }
  return Math.round(rates.sort((a, b) => a - b)[RUNS >> 1]!);
}

function bench(name: string, packetOf: (i: number, outward: boolean) => Uint8Array): void {
  const arena = Array.from({ length: SESSIONS }, (_, i) => {
    const inner = packetOf(i + 1, false);
    const buffer = new Uint8Array(DATA.inner + inner.length);
    buffer.set(inner, DATA.inner);
    return buffer;
  });
  const downlink = measure(
    SESSIONS,
    () => {},
    () => {
      for (const buffer of arena) engine.packet(buffer, DATA.inner, buffer.length - DATA.inner, 1);
    },
  );
  let datagrams: Uint8Array[] = [];
  const uplink = measure(
    SESSIONS,
    () => {
      datagrams = devices.map((device, i) => device.data(packetOf(i + 1, true)));
    },
    () => {
      for (const datagram of datagrams) engine.datagram(ENDPOINT, PATH, datagram, 0, datagram.length, 1);
    },
  );
  process.stdout.write(
    `${JSON.stringify({ case: name, downlink, uplink, unit: 'packets/s', sessions: SESSIONS })}\n`,
  );
}

bench('esp-100B', (i, outward) =>
  outward
    ? ip(SHARED, PEER, 50, esp(i, 1, new Uint8Array(72)))
    : ip(PEER, SHARED, 50, esp(i * 256, 1, new Uint8Array(72))),
);
bench('udp-1400B', (i, outward) =>
  outward
    ? ip(SHARED, PEER, 17, udp(i * 32, 53, new Uint8Array(1372)))
    : ip(PEER, SHARED, 17, udp(53, i * 32, new Uint8Array(1372))),
);
process.stdout.write(`${JSON.stringify({ forwarded, counters: engine.command({ op: 'counters' }, 1) })}\n`);
