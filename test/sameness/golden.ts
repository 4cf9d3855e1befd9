import { DEFAULT_MARKING } from '../../src/tunnel/dscp-ecn.ts';
import { PORTS } from './cast.ts';
import { type Step, type Story, withoutSharedCounts } from './story.ts';
import type { PacketPlan } from './traffic.ts';

/** Stories that chance would seldom tell. */

type Up = Extract<Step, { do: 'up' }>;

const ANN = 0;
const BOB = 1;
const CYD = 2;
const DAN = 3;

const PLAIN: PacketPlan = {
  shape: 'udp',
  family: 0,
  near: 0,
  far: 0,
  port: 0,
  farPort: 12,
  spi: 0,
  size: 32,
  ttl: 64,
  trafficClass: 0,
  flaw: null,
};
export const ESP: PacketPlan = { ...PLAIN, shape: 'esp' };

export function up(role: number, fields: Partial<Up> = {}): Step {
  return { do: 'up', role, packet: PLAIN, own: true, from: null, tamper: null, outerClass: 0, ...fields };
}

export function down(packet: Partial<PacketPlan> = {}): Step {
  return { do: 'down', packet: { ...PLAIN, ...packet }, padding: 0 };
}

/** To Bob's ports on the address that he shares with Ann. */
const BOBS = { port: 2 };
const DANS = { near: 1 };

export function story(steps: readonly Step[], paths: Partial<Record<number, number>> = { [ANN]: 0 }): Story {
  return {
    paths: [0, 1, 2, 3, 4, 5].map((role) => paths[role] ?? 'absent'),
    settings: {
      rekeyAfterPackets: 1,
      marking: DEFAULT_MARKING,
      policing: { uplink: null, downlink: null },
    },
    steps,
  };
}

/** To and from certain ports of the shared IPv4 address. */
function both(role: number, ...ports: readonly number[]): Step[] {
  return ports.flatMap((port) => {
    const packet = { ...PLAIN, port: PORTS.indexOf(port) };
    return [down(packet), up(role, { packet, own: false })];
  });
}

const skip = (by: number) => ({ tamper: { kind: 'skip', by } as const });
const later = (by = 0) => ({ tamper: { kind: 'later', skip: by } as const });
const everySize = Array.from({ length: 64 }, (_, size) => size);

export const GOLDEN: readonly { readonly name: string; readonly story: Story }[] = [
  {
    name: 'a number that the window has wrapped round to',
    // The device has its new key when the first step is over; its numbers begin then.
    story: story([
      down(),
      up(ANN, skip(64)),
      up(ANN, skip(3936)),
      up(ANN, later(158)),
      up(ANN, skip(138)),
      up(ANN),
    ]),
  },
  {
    name: 'the oldest number of the window, and one older',
    story: story([
      down(),
      up(ANN, later()),
      up(ANN, skip(4094)),
      up(ANN, later()),
      up(ANN, skip(4095)),
      up(ANN, { tamper: { kind: 'twice' } }),
    ]),
  },
  {
    name: 'held packets leave in order, before those that follow, over the new path',
    story: story([
      down(),
      { do: 'bind', role: ANN, path: 2, oldPath: 'dead' },
      ...[1, 2, 3].map((size) => down({ size })),
      { do: 'answer', role: ANN },
      down({ size: 4 }),
      up(ANN),
      down(ESP),
    ]),
  },
  {
    name: 'a hold that nobody ends goes back to the old path',
    story: story([
      { do: 'hold', role: ANN },
      down(),
      { do: 'pass', ms: 1_100 },
      down(),
      { do: 'pass', ms: 2_100 },
      down(),
    ]),
  },
  {
    name: 'from IPv4 to IPv6 and back while the old path lives',
    story: story([
      { do: 'answer', role: ANN },
      up(ANN),
      { do: 'bind', role: ANN, path: 1, oldPath: 'alive' },
      down(),
      up(ANN),
      { do: 'answer', role: ANN },
      down({ family: 1 }),
      up(ANN, { packet: { ...PLAIN, family: 1 } }),
      { do: 'bind', role: ANN, path: 0, oldPath: 'alive' },
      down(),
      { do: 'answer', role: ANN },
      down({ family: 1 }),
      up(ANN, later()),
      up(ANN),
    ]),
  },
  {
    name: 'an index goes to another session, and nothing of the former one with it',
    story: story(
      [
        down(),
        up(ANN, later()),
        { do: 'session', role: ANN, change: 'again' },
        down(),
        up(ANN),
        down(BOBS),
        { do: 'session', role: ANN, change: 'drop' },
        down(),
        down(BOBS),
      ],
      { [ANN]: 0, [BOB]: 1 },
    ),
  },
  {
    name: 'a lease ends, comes back, and goes to a neighbour',
    story: story(
      [
        { do: 'lease', role: ANN, number: 0, change: 'shorten' },
        down(),
        { do: 'pass', ms: 60 },
        down(),
        up(ANN),
        { do: 'lease', role: ANN, number: 0, change: 'renew' },
        down(),
        up(ANN),
        { do: 'lease', role: ANN, number: 0, change: 'give' },
        down(),
        up(ANN),
        { do: 'lease', role: ANN, number: 0, change: 'drop' },
        down(),
        up(ANN),
      ],
      { [ANN]: 0, [BOB]: 1 },
    ),
  },
  {
    name: 'a port block doubles beside smaller ones, and its neighbour is a stranger again when it ends',
    story: story(
      [
        ...both(CYD, 2111, 2112),
        { do: 'lease', role: CYD, number: 0, change: 'double' },
        ...both(CYD, 2048, 2111, 2112, 2175, 2176),
        down(BOBS),
        { do: 'anchor', anchor: 0, change: 'hand-over' },
        { do: 'lease', role: CYD, number: 0, change: 'double' },
        ...both(CYD, 2111, 2112),
        { do: 'lease', role: CYD, number: 0, change: 'shorten' },
        { do: 'pass', ms: 60 },
        ...both(CYD, 2048, 2112),
        { do: 'lease', role: CYD, number: 0, change: 'double' },
        { do: 'lease', role: CYD, number: 0, change: 'drop' },
        ...both(CYD, 2048, 2112),
        down(BOBS),
      ],
      { [BOB]: 1, [CYD]: 0 },
    ),
  },
  {
    name: 'a port block doubles only where the other half is free',
    story: story(
      [
        { do: 'lease', role: ANN, number: 0, change: 'double' },
        ...both(ANN, 1024, 1088),
        { do: 'lease', role: BOB, number: 0, change: 'drop' },
        { do: 'lease', role: ANN, number: 0, change: 'double' },
        ...both(ANN, 1024, 1087, 1088, 1151, 1152),
        down({ shape: 'esp' }),
        { do: 'lease', role: BOB, number: 0, change: 'renew' },
        ...both(ANN, 1088),
        { do: 'lease', role: ANN, number: 0, change: 'renew' },
        ...both(ANN, 1087, 1088),
        { do: 'lease', role: BOB, number: 0, change: 'renew' },
        down(BOBS),
        ...both(ANN, 1087, 1088),
      ],
      { [ANN]: 0, [BOB]: 1 },
    ),
  },
  {
    name: 'a block comes beside one that has doubled already',
    story: story(
      [
        ...[ANN, BOB].map((role): Step => ({ do: 'lease', role, number: 0, change: 'drop' })),
        { do: 'lease', role: CYD, number: 0, change: 'drop' },
        { do: 'lease', role: CYD, number: 0, change: 'double' },
        ...both(CYD, 2048, 2112),
        { do: 'lease', role: BOB, number: 0, change: 'renew' },
        down(BOBS),
        ...both(CYD, 2048, 2112, 2176),
        { do: 'lease', role: CYD, number: 0, change: 'renew' },
        ...both(CYD, 2048, 2112),
      ],
      { [ANN]: 0, [BOB]: 1, [CYD]: 0 },
    ),
  },
  {
    name: 'an anchor past its deadline, extended, and handed over',
    story: story(
      [
        { do: 'anchor', anchor: 0, change: 'shorten' },
        { do: 'pass', ms: 60 },
        down(),
        up(ANN),
        down(DANS),
        up(DAN),
        { do: 'anchor', anchor: 0, change: 'lengthen' },
        down(),
        up(ANN),
        { do: 'anchor', anchor: 0, change: 'hand-over' },
        down(),
        up(ANN),
        { do: 'answer', role: ANN },
        up(ANN),
        down(),
      ],
      { [ANN]: 0, [DAN]: 0 },
    ),
  },
  {
    name: 'answers to what was asked lately, and too long ago',
    story: story([
      up(ANN, { packet: { ...PLAIN, shape: 'echo' } }),
      { do: 'reply', ago: 0, as: 'answer' },
      { do: 'reply', ago: 0, as: 'error' },
      { do: 'pass', ms: 31_000 },
      { do: 'reply', ago: 0, as: 'answer' },
      up(ANN, { packet: ESP }),
      { do: 'reply', ago: 0, as: 'error' },
      up(ANN, { packet: { ...PLAIN, shape: 'natt-esp' } }),
      { do: 'reply', ago: 0, as: 'error' },
    ]),
  },
  {
    name: 'packets of every small size, whole and cut',
    story: story(
      everySize.flatMap((size): Step[] => [
        down({ size, ...DANS }),
        up(DAN, { packet: { ...PLAIN, size } }),
        down({ flaw: { kind: 'short', octets: size } }),
        up(ANN, { packet: { ...ESP, flaw: { kind: 'short', octets: size } } }),
        { do: 'raw', octets: new Uint8Array(size).fill(0x10), from: 0 },
        { do: 'noise', octets: new Uint8Array(14 + size).fill(0x45) },
      ]),
      { [ANN]: 0, [DAN]: 0 },
    ),
  },
  {
    name: 'all four combinations of families, the longest packets, and one octet more',
    story: story(
      [0, 1].flatMap((family) =>
        [1280, 1281].flatMap((length): Step[] => {
          const size = length - (family === 0 ? 20 : 40) - 8;
          return (['udp', 'esp'] as const).flatMap((shape): Step[] => [
            down({ family, shape, size }),
            down({ family, shape, size, ...BOBS, spi: 3 }),
            up(ANN, { packet: { ...PLAIN, family, shape, size } }),
            up(BOB, { packet: { ...PLAIN, family, shape, size } }),
          ]);
        }),
      ),
      { [ANN]: 0, [BOB]: 1 },
    ),
  },
].map(({ name, story: told }) => ({ name, story: withoutSharedCounts(told) }));
