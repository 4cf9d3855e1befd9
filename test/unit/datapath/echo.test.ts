import { beforeEach, describe, expect, it } from 'vitest';
import { PEER, PEER6, SHARED, SHARED6, WHOLE } from './decision-world.ts';
import { anchor, at, EngineRig, install } from './engine-rig.ts';
import { echo, extended, icmp, internetChecksum, ip, lease } from './packets.ts';

const WIFI = at('192.0.2.10', 40_000);
let rig: EngineRig;

beforeEach(() => {
  rig = new EngineRig(0xaaaan);
  anchor(rig);
  const ports = { first: 1024, count: 64 };
  const device = install(rig, 1, [
    lease({ kind: 'rsap-ip', address: SHARED, ports }),
    lease({ kind: 'rsap-ip', address: SHARED6, ports }),
    lease({ kind: 'rsa-ip', address: WHOLE }),
  ]);
  rig.connect(device, WIFI);
  rig.takeSent();
});

/** An ICMPv6 message with its checksum over the pseudo-header. */
function icmp6(source: string, destination: string, message: Uint8Array): Uint8Array {
  const carrier = ip(source, destination, 58, message);
  const pseudo = new Uint8Array(40 + message.length);
  pseudo.set(carrier.subarray(8, 40));
  pseudo.set([0, 0, message.length >> 8, message.length & 0xff, 0, 0, 0, 58], 32);
  pseudo.set(message, 40);
  pseudo.set([0, 0], 42);
  new DataView(carrier.buffer).setUint16(42, internetChecksum(pseudo));
  return carrier;
}

const ask = (packet: Uint8Array) => {
  rig.packet(packet);
  return rig.takeToNetwork();
};
const body = Uint8Array.from({ length: 57 }, (_, i) => i);

describe('an echo request to a shared address', () => {
  it('R43: is answered by the relay with the same id, sequence and data, and reaches no device', () => {
    const [answer] = ask(ip(PEER, SHARED, 1, icmp(8, 0, 0x1234_0007, body), { ttl: 3 }));
    const expected = ip(SHARED, PEER, 1, icmp(0, 0, 0x1234_0007, body), { id: 0, dontFragment: true });
    expect(answer).toEqual(expected);
    expect(rig.takeSent()).toEqual([]);
    expect(rig.counters().downlink).toEqual({ 'echo-answered': 1 });
  });

  it('R43: is answered over IPv6 too', () => {
    const [answer] = ask(icmp6(PEER6, SHARED6, icmp(128, 0, 0x1234_0007, body)));
    expect(answer).toEqual(icmp6(SHARED6, PEER6, icmp(129, 0, 0x1234_0007, body)));
  });

  it('R43: is answered no more often than the limit, never larger', () => {
    let answers = 0;
    for (let n = 0; n < 1000; n += 1) {
      const question = ip(PEER, SHARED, 1, echo(8, n));
      for (const answer of ask(question)) {
        answers += 1;
        expect(answer.length).toBe(question.length);
      }
    }
    expect(answers).toBe(50);
    expect(rig.counters().downlink).toEqual({ 'echo-answered': 50, 'echo-limited': 950 });
    rig.pass(100);
    expect(ask(ip(PEER, SHARED, 1, echo(8, 1)))).toHaveLength(1);
  });

  it('R43: gets no answer that would go to many hosts, to none, or to itself; nor when it is damaged or in pieces', () => {
    const request = echo(8, 7);
    const damaged = request.slice();
    damaged[3]! ^= 1;
    const silent = [
      ...['0.0.0.0', '127.0.0.1', '224.0.0.1', '255.255.255.255', SHARED].map((from) =>
        ip(from, SHARED, 1, request),
      ),
      ...['::', '::1', 'ff02::1', SHARED6].map((from) => icmp6(from, SHARED6, echo(128, 7))),
      ip(PEER, SHARED, 1, damaged),
      ip(PEER6, SHARED6, 58, echo(128, 7)),
      ip(PEER, SHARED, 1, request, { moreFragments: true }),
      ip(PEER6, SHARED6, 60, extended(58, echo(128, 7), [60])),
    ];
    for (const packet of silent) expect(ask(packet)).toEqual([]);
    expect(rig.takeSent()).toEqual([]);
  });

  it('R43: is not answered past the deadline of its anchor', () => {
    rig.command({ op: 'deadline', anchor: 'a1', untilMs: rig.nowMs });
    expect(ask(ip(PEER, SHARED, 1, echo(8, 7)))).toEqual([]);
  });
});

it('R43: an echo request to a whole address is the device’s to answer', () => {
  expect(ask(ip(PEER, WHOLE, 1, echo(8, 7)))).toEqual([]);
  expect(rig.takeSent()).toHaveLength(1);
});
