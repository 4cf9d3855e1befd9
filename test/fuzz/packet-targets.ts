import { gcm } from '@noble/ciphers/aes.js';
import { decodeBody, encodeBody } from '../../src/tunnel/control-body.ts';
import { deriveControlAeadKey, deriveControlTagKey } from '../../src/tunnel/keys.ts';
import { sipKey, writeTag } from '../../src/tunnel/siphash.ts';
import { CONTROL } from '../../src/tunnel/wire.ts';
import { anchor, at, EngineRig, install, rootOf } from '../unit/datapath/engine-rig.ts';
import { fragment } from '../unit/datapath/fragment.ts';
import type { HandDevice } from '../unit/datapath/hand-device.ts';
import { ah, echo, esp, extended, icmp, ip, lease, quote, tcp, udp } from '../unit/datapath/packets.ts';
import type { Target } from './fuzzer.ts';
import { mutated } from './mutate.ts';

/** Everything that anybody's octets reach in the packet engine. */

const SHARED = ['203.0.113.7', '2001:db8::7'] as const;
const WHOLE = ['203.0.113.8', '2001:db8::8'] as const;
const PEER = ['198.51.100.9', '2001:db8:ffff::9'] as const;
const PATHS = [at('192.0.2.10', 1), at('2001:db8:a::10', 2)] as const;
/** Time goes on, so that what is kept for a while is also given up. */
const STEP_MS = 5;

interface World {
  readonly rig: EngineRig;
  readonly device: HandDevice;
  /** Lets time pass, and forgets what left. */
  settle(): void;
}

function world(): World {
  const rig = new EngineRig(0xbeefn);
  anchor(rig);
  const leases = [
    ...SHARED.map((address) =>
      lease({
        kind: 'rsipsec',
        address,
        ports: { first: 1024, count: 64 },
        spis: { first: 0x1000_0000, count: 16 },
      }),
    ),
    ...WHOLE.map((address) => lease({ kind: 'rsa-ip', address })),
  ];
  const device = install(rig, 1, leases);
  rig.connect(device, PATHS[0]);
  return {
    rig,
    device,
    settle() {
      rig.pass(STEP_MS);
      rig.takeSent();
      rig.takeToNetwork();
      rig.events.length = 0;
      device.messages.length = 0;
      device.received.length = 0;
      device.refused.length = 0;
    },
  };
}

/** One of every kind between two addresses. */
function everyKind(source: string, destination: string): Uint8Array[] {
  const v6 = source.includes(':');
  const icmpProtocol = v6 ? 58 : 1;
  const ike = new Uint8Array(40).fill(7);
  ike.set([0x20, 0x22, 0x08], 17);
  const payloads: readonly (readonly [protocol: number, payload: Uint8Array])[] = [
    [17, udp(1024, 1025)],
    [6, tcp(1030, 1031)],
    [50, esp(0x1000_0001)],
    [51, ah(0x1000_0002)],
    [17, udp(500, 500, ike)],
    [17, udp(4500, 4500, new Uint8Array([0, 0, 0, 0, ...ike]))],
    [17, udp(4500, 4500, esp(0x1000_0003))],
    [17, udp(4500, 4500, Uint8Array.of(0xff))],
    [icmpProtocol, echo(v6 ? 128 : 8, 77)],
    [icmpProtocol, echo(v6 ? 129 : 0, 77)],
    [132, new Uint8Array(12)],
    [v6 ? 41 : 4, ip(source, destination, 17, udp(1024, 53))],
  ];
  const packets = payloads.map(([protocol, payload]) => ip(source, destination, protocol, payload));
  if (v6) {
    for (const headers of [[0], [60, 43], [44], [0, 60, 43, 44]]) {
      packets.push(ip(source, destination, headers[0]!, extended(17, udp(1024, 53), headers, 1)));
    }
  }
  return packets;
}

function bothFamilies(direction: 'up' | 'down'): Uint8Array[] {
  return [0, 1].flatMap((family) =>
    [SHARED[family]!, WHOLE[family]!].flatMap((near) =>
      direction === 'up' ? everyKind(near, PEER[family]!) : everyKind(PEER[family]!, near),
    ),
  );
}

/** Errors about everything that the device may have sent, or been sent. */
function errors(direction: 'up' | 'down'): Uint8Array[] {
  return [0, 1].flatMap((family) => {
    const [near, far] = [SHARED[family]!, PEER[family]!];
    const [from, to] = direction === 'up' ? [near, far] : [far, near];
    return everyKind(to, from).flatMap((about) =>
      [1, 2, 3, 11].map((type) =>
        ip(from, to, family === 0 ? 1 : 58, icmp(type, 4 - (type % 4), 1400, quote(about, 28))),
      ),
    );
  });
}

function pieces(direction: 'up' | 'down'): Uint8Array[] {
  return [0, 1].flatMap((family) => {
    const [near, far] = [SHARED[family]!, PEER[family]!];
    const [from, to] = direction === 'up' ? [near, far] : [far, near];
    return fragment(from, to, 17, udp(1024, 1025, new Uint8Array(80)), [16, 40, 64]);
  });
}

function target(name: string, inputs: readonly Uint8Array[], read: (octets: Uint8Array) => void): Target {
  return {
    name,
    inputs,
    draw: (random) => mutated(random, inputs),
    read: (input) => read(input as Uint8Array),
  };
}

/** A target that both directions of a fresh engine read. */
function packets(name: string, up: readonly Uint8Array[], down: readonly Uint8Array[]): Target {
  const { rig, device, settle } = world();
  return target(name, [...up, ...down], (octets) => {
    rig.packet(octets);
    // Sealed by the device, so that nothing is refused before it is read.
    if (octets.length > 0) rig.datagram(PATHS[0], device.data(octets));
    settle();
  });
}

/** CONTROL whose seal and tag are right, whatever its body says. */
function sealedControl(): Target {
  const { rig, device, settle } = world();
  const aead = deriveControlAeadKey(rootOf(1), 'to-relay', device.boot);
  const tagKey = sipKey(deriveControlTagKey(rootOf(1), 'to-relay'));
  let counter = 1_000_000n;
  const bodies = (['bind', 'hold', 'keepalive', 'proof'] as const).map((kind) =>
    encodeBody({ kind, epoch: 1n, echoBoot: 0xbeefn, generation: 2 }),
  );
  return target('CONTROL bodies', bodies, (octets) => {
    decodeBody(octets);
    const body = new Uint8Array(CONTROL.body);
    body.set(octets.subarray(0, CONTROL.body));
    counter += 1n;
    const datagram = new Uint8Array(CONTROL.length);
    const view = new DataView(datagram.buffer);
    view.setUint32(0, 0x3000_0001);
    view.setBigUint64(CONTROL.boot, device.boot);
    view.setBigUint64(CONTROL.counter, counter);
    const nonce = new Uint8Array(12);
    nonce.set(datagram.subarray(CONTROL.counter, CONTROL.tag), 4);
    datagram.set(gcm(aead, nonce, datagram.subarray(0, CONTROL.tag)).encrypt(body), CONTROL.sealed);
    const covered = new Uint8Array([
      ...datagram.subarray(0, CONTROL.tag),
      ...datagram.subarray(CONTROL.sealed),
    ]);
    writeTag(tagKey, covered, 0, covered, 8, covered.length - 8, datagram, CONTROL.tag);
    rig.datagram(PATHS[octets.length % 2]!, datagram);
    settle();
  });
}

function tunnelDatagrams(): Target {
  const { rig, device, settle } = world();
  const inputs = [
    ...bothFamilies('up').map((inner) => device.data(inner)),
    device.bind('alive'),
    device.control({ kind: 'keepalive' }),
    device.control({ kind: 'hold' }),
  ];
  return target('tunnel datagrams', inputs, (octets) => {
    rig.datagram(PATHS[octets.length % 2]!, octets);
    rig.command({ op: 'rebind', anchor: 'a1', datagram: octets, believed: PATHS[1] });
    settle();
  });
}

/** What comes through the tunnel, or pretends to. */
export const tunnelTargets = (): Target[] => [tunnelDatagrams(), sealedControl()];

/** Packets, whole and in pieces. */
export const innerTargets = (): Target[] => [
  packets('inner packets', bothFamilies('up'), bothFamilies('down')),
  packets('fragments', pieces('up'), pieces('down')),
];

/** What is read of packets further in than addresses and ports. */
export function deeperTargets(): Target[] {
  const isIpsec = (packet: Uint8Array) => {
    const at = packet[0]! >> 4 === 4 ? 20 : 40;
    return packet.length > at + 3 && ((packet[at]! << 8) | packet[at + 1]!) % 4000 === 500;
  };
  return [
    packets('quotes of ICMP errors', errors('up'), errors('down')),
    packets('IKE', bothFamilies('up').filter(isIpsec), bothFamilies('down').filter(isIpsec)),
  ];
}
