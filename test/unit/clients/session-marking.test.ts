import { describe, expect, it } from 'vitest';
import { createDeviceSession, type DeviceSession } from '../../../clients/sdk/session.ts';
import { DEFAULT_MARKING, setTrafficClass, type TunnelMarking } from '../../../src/tunnel/dscp-ecn.ts';
import { DATA } from '../../../src/tunnel/wire.ts';
import { anchor, at, EngineRig, rootOf, sessionId } from '../datapath/engine-rig.ts';
import { ip, lease, udp } from '../datapath/packets.ts';

const [OWN, PEER] = ['203.0.113.8', '198.51.100.9'];
const HERE = at('192.0.2.10', 40_000);
const EF = 46 << 2;
const CS1 = 8 << 2;

interface Scene {
  readonly rig: EngineRig;
  readonly device: DeviceSession;
  /** Octets of the outer headers that the device chose, and the packets that it delivered. */
  readonly outer: number[];
  readonly delivered: Uint8Array[];
}

/** A device at a relay that marks as it is told; both ends see each other's outer octets. */
function scene(relay: TunnelMarking, marking?: TunnelMarking): Scene {
  const rig = new EngineRig(0xaaaan, 1, undefined, null, { marking: relay });
  anchor(rig);
  const session = { id: sessionId(1), index: 1, root: rootOf(1), hint: null };
  rig.command({ op: 'session', anchor: 'a1', session });
  const held = { ...lease({ kind: 'rsa-ip', address: OWN }), session: session.id };
  rig.command({ op: 'lease', anchor: 'a1', lease: held, untilMs: 1e9 });
  const [outer, delivered]: [number[], Uint8Array[]] = [[], []];
  const device = createDeviceSession({
    root: rootOf(1),
    index: 1,
    boot: 0xd1n,
    addresses: [OWN],
    ...(marking === undefined ? {} : { marking }),
    sink: {
      send(_link, buffer, from, length, octet) {
        outer.push(octet);
        rig.datagram(HERE, buffer.slice(from, from + length), undefined, octet);
      },
      deliver: (buffer, from, length) => void delivered.push(buffer.slice(from, from + length)),
      signal: () => {},
      event: () => {},
    },
  });
  const made = { rig, device, outer, delivered };
  device.link({ type: 'use', link: 'wifi', oldPath: 'unknown' }, rig.nowMs);
  for (let round = 0; round < 6; round += 1) arrive(made);
  outer.length = 0;
  return made;
}

/** Hands what the relay sent to the device, with the octet that the way made of it. */
function arrive({ rig, device }: Scene, octet?: number): void {
  for (const { octets, octet: sent } of rig.takeSent()) {
    device.datagram('wifi', octets, 0, octets.length, rig.nowMs, octet ?? sent);
  }
}

function send({ rig, device }: Scene, packet: Uint8Array): void {
  const buffer = new Uint8Array(DATA.inner + packet.length);
  buffer.set(packet, DATA.inner);
  device.packet(buffer, DATA.inner, packet.length, rig.nowMs);
}

function marked(packet: Uint8Array, octet: number): Uint8Array {
  const copy = packet.slice();
  setTrafficClass(copy, 0, octet);
  return copy;
}

const UP = ip(OWN, PEER, 17, udp(9, 53));
const DOWN = ip(PEER, OWN, 17, udp(53, 9));

describe('a device', () => {
  it('R45: shows class and ECN of a packet outside by default, and changes nothing inside', () => {
    const { rig, outer, ...rest } = scene(DEFAULT_MARKING);
    send({ rig, outer, ...rest }, marked(UP, EF | 2));
    expect(outer).toEqual([EF | 2]);
    expect(rig.takeToNetwork()).toEqual([marked(UP, EF | 2)]);
  });

  it('R45: passes a mark of congestion on to its own side, or drops what cannot carry it', () => {
    const world = scene({ ...DEFAULT_MARKING, ecn: 'normal' });
    world.rig.packet(marked(DOWN, 2));
    arrive(world, 3);
    world.rig.packet(DOWN);
    arrive(world, 3);
    expect(world.delivered).toEqual([marked(DOWN, 3)]);
    expect(world.device.status().counters['congestion-unheard']).toBe(1);
  });

  it('R45: rewrites at its two points where it is told to', () => {
    const rule = { mode: 'rewrite', value: CS1 >> 2 } as const;
    const world = scene(DEFAULT_MARKING, { ingress: rule, egress: rule, ecn: 'compatible' });
    send(world, marked(UP, EF | 2));
    expect(world.outer).toEqual([CS1]);
    expect(world.rig.takeToNetwork()).toEqual([marked(UP, CS1 | 2)]);
    world.rig.packet(marked(DOWN, EF));
    arrive(world);
    expect(world.delivered).toEqual([marked(DOWN, CS1)]);
  });

  it('R45: sees nothing of the outer header where its platform does not show it, and loses nothing by that', () => {
    const world = scene(DEFAULT_MARKING);
    world.rig.packet(marked(DOWN, EF | 3));
    arrive(world, 0);
    expect(world.delivered).toEqual([marked(DOWN, EF | 3)]);
  });
});
