import fc from 'fast-check';
import { policing } from '../../src/datapath/decision/policing.ts';
import { DEFAULT_MARKING, type DscpMode, type DscpRule, type EcnMode } from '../../src/tunnel/dscp-ecn.ts';
import { ANCHORS, INNER_MTU, PATHS, ROLES } from './cast.ts';
import type { Settings } from './subject.ts';
import { fitting, type PacketPlan, packetPlans } from './traffic.ts';

/** What happens to a relay, step by step. Everything in it is a small number, so that a failing story shrinks. */

export type Tamper =
  | { readonly kind: 'flip'; readonly at: number; readonly bits: number }
  /** Other bits in the octet of type, phase, lane and the reserved bit. */
  | { readonly kind: 'first'; readonly bits: number }
  | { readonly kind: 'cut'; readonly octets: number }
  | { readonly kind: 'longer'; readonly octets: number }
  /** The same datagram again: what arrives twice is one too many. */
  | { readonly kind: 'twice' }
  | { readonly kind: 'fast-lane' }
  | { readonly kind: 'skip'; readonly by: number }
  | { readonly kind: 'old-key' }
  /** Kept back until the role's next packet has gone; numbered `skip` further on. */
  | { readonly kind: 'later'; readonly skip: number };

export type Step =
  | { readonly do: 'down'; readonly packet: PacketPlan; readonly padding: number }
  | {
      readonly do: 'up';
      readonly role: number;
      readonly packet: PacketPlan;
      /** From the device's own address and port, whatever the packet's plan says. */
      readonly own: boolean;
      /** Place in `PATHS`; null: where the device is. */
      readonly from: number | null;
      readonly tamper: Tamper | null;
      readonly outerClass: number;
    }
  /** What a peer says to, or a router about, one of the last packets that a device sent. */
  | { readonly do: 'reply'; readonly ago: number; readonly as: 'answer' | 'error' }
  | { readonly do: 'raw'; readonly octets: Uint8Array; readonly from: number }
  | { readonly do: 'noise'; readonly octets: Uint8Array }
  | {
      readonly do: 'pieces';
      readonly role: number | null;
      readonly packet: PacketPlan;
      /** Which of the three pieces come, in this order; 3 and 4 overlap two of them. */
      readonly order: readonly number[];
      readonly id: number;
    }
  | {
      readonly do: 'bind';
      readonly role: number;
      readonly path: number;
      readonly oldPath: 'alive' | 'dead' | 'unknown';
    }
  | { readonly do: 'answer'; readonly role: number }
  | { readonly do: 'hold' | 'keepalive'; readonly role: number }
  | { readonly do: 'pass'; readonly ms: number }
  | {
      readonly do: 'lease';
      readonly role: number;
      readonly number: number;
      readonly change: 'renew' | 'shorten' | 'double' | 'drop' | 'give';
    }
  | { readonly do: 'session'; readonly role: number; readonly change: 'drop' | 'again' }
  | {
      readonly do: 'anchor';
      readonly anchor: number;
      readonly change: 'shorten' | 'lengthen' | 'drop' | 'hand-over';
    }
  | { readonly do: 'host-addresses'; readonly known: boolean };

export interface Story {
  /** Where each role is at first: a place in `PATHS`, nowhere yet, or not there at all. */
  readonly paths: readonly (number | 'nowhere' | 'absent')[];
  readonly settings: Settings;
  readonly steps: readonly Step[];
}

const REKEY_AFTER = 2 ** 31 - 2 ** 20;
/** A sequence at which a key is nearly used up. */
const WORN_OUT = 0x7fff_0000;

const role = fc.nat(ROLES.length - 1);
const path = fc.nat(PATHS.length - 1);
const places = fc.oneof(
  { weight: 4, arbitrary: path },
  { weight: 6, arbitrary: fc.constant('absent' as const) },
  { weight: 1, arbitrary: fc.constant('nowhere' as const) },
);

const tampers: fc.Arbitrary<Tamper> = fc.oneof(
  fc.record({ kind: fc.constant('flip' as const), at: fc.nat(80), bits: fc.integer({ min: 1, max: 255 }) }),
  fc.record({ kind: fc.constant('first' as const), bits: fc.constantFrom(0x01, 0x30, 0x04, 0x02, 0x10) }),
  fc.record({ kind: fc.constant('cut' as const), octets: fc.integer({ min: 1, max: 120 }) }),
  fc.record({ kind: fc.constant('longer' as const), octets: fc.integer({ min: 1, max: 20 }) }),
  fc.constant({ kind: 'twice' as const }),
  fc.constant({ kind: 'fast-lane' as const }),
  fc.record({
    kind: fc.constant('skip' as const),
    by: fc.constantFrom(1, 63, 64, 4094, 4095, 4096, 8190, 70_000, WORN_OUT),
  }),
  fc.constant({ kind: 'old-key' as const }),
  fc.record({ kind: fc.constant('later' as const), skip: fc.constantFrom(0, 0, 64, 4096) }),
);

const packets = fc.oneof({ weight: 1, arbitrary: fitting }, { weight: 2, arbitrary: packetPlans });

const up = fc.record({
  do: fc.constant('up' as const),
  role,
  packet: packets,
  own: fc.oneof({ weight: 3, arbitrary: fc.constant(true) }, { weight: 1, arbitrary: fc.constant(false) }),
  from: fc.oneof({ weight: 9, arbitrary: fc.constant(null) }, { weight: 1, arbitrary: path }),
  tamper: fc.oneof({ weight: 4, arbitrary: fc.constant(null) }, { weight: 1, arbitrary: tampers }),
  outerClass: fc.oneof({ weight: 4, arbitrary: fc.constant(0) }, { weight: 1, arbitrary: fc.nat(255) }),
});

const down = fc.record({
  do: fc.constant('down' as const),
  packet: packets,
  padding: fc.oneof({ weight: 6, arbitrary: fc.constant(0) }, { weight: 1, arbitrary: fc.nat(30) }),
});

const steps: fc.Arbitrary<Step> = fc.oneof(
  { weight: 40, arbitrary: up },
  { weight: 40, arbitrary: down },
  {
    weight: 8,
    arbitrary: fc.record({
      do: fc.constant('reply' as const),
      ago: fc.nat(3),
      as: fc.constantFrom('answer' as const, 'answer' as const, 'error' as const),
    }),
  },
  {
    weight: 3,
    arbitrary: fc.record({
      do: fc.constant('pieces' as const),
      role: fc.option(role),
      packet: fitting,
      order: fc.oneof(
        fc.constantFrom([0, 1, 2], [2, 1, 0], [1, 0, 2], [0, 0, 1, 2], [0, 2], [2, 0, 1, 1]),
        fc.constantFrom([0, 3, 1, 2], [0, 1, 3, 2], [2, 4, 1, 0], [3, 0, 2, 1], [4, 0, 1]),
      ),
      id: fc.nat(3),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constant('raw' as const),
      octets: fc.uint8Array({ maxLength: 130 }),
      from: path,
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constant('noise' as const),
      octets: fc.uint8Array({ minLength: 14, maxLength: 90 }),
    }),
  },
  {
    weight: 4,
    arbitrary: fc.record({
      do: fc.constant('bind' as const),
      role,
      path,
      oldPath: fc.constantFrom('dead' as const, 'alive' as const, 'unknown' as const),
    }),
  },
  { weight: 6, arbitrary: fc.record({ do: fc.constant('answer' as const), role }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constantFrom('hold' as const, 'keepalive' as const), role }) },
  {
    weight: 4,
    arbitrary: fc.record({
      do: fc.constant('pass' as const),
      ms: fc.constantFrom(1, 60, 300, 1_100, 2_100, 11_000, 31_000),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constant('lease' as const),
      role,
      number: fc.nat(1),
      change: fc.constantFrom(...(['renew', 'shorten', 'double', 'drop', 'give'] as const)),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      do: fc.constant('session' as const),
      role,
      change: fc.constantFrom('drop' as const, 'again' as const),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      do: fc.constant('anchor' as const),
      anchor: fc.nat(ANCHORS.length - 1),
      change: fc.constantFrom('shorten' as const, 'lengthen' as const, 'drop' as const, 'hand-over' as const),
    }),
  },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('host-addresses' as const), known: fc.boolean() }) },
);

const rules: fc.Arbitrary<DscpRule> = fc.record({
  mode: fc.constantFrom<DscpMode>('copy', 'keep', 'rewrite'),
  value: fc.constantFrom(0, 46, 63),
});
const rates = fc.oneof(
  { weight: 7, arbitrary: fc.constant(null) },
  { weight: 1, arbitrary: fc.constantFrom(policing(128_000, INNER_MTU), policing(1_000_000, INNER_MTU, 5)) },
);

const settings: fc.Arbitrary<Settings> = fc.record({
  rekeyAfterPackets: fc.oneof(
    { weight: 5, arbitrary: fc.constant(REKEY_AFTER) },
    { weight: 1, arbitrary: fc.constantFrom(3, 8) },
  ),
  marking: fc.oneof(
    { weight: 2, arbitrary: fc.constant(DEFAULT_MARKING) },
    {
      weight: 1,
      arbitrary: fc.record({
        ingress: rules,
        egress: rules,
        ecn: fc.constantFrom<EcnMode>('compatible', 'normal'),
      }),
    },
  ),
  policing: fc.record({ uplink: rates, downlink: rates }),
});

export function stories(length: {
  readonly minLength: number;
  readonly maxLength: number;
}): fc.Arbitrary<Story> {
  return fc.record({
    paths: fc.tuple(...ROLES.map(() => places)),
    settings,
    steps: fc.array(steps, { ...length, size: 'max' }),
  });
}

/**
 * The same story without what each engine counts by itself, because no two could do it for one another packet by
 * packet: how far a key is worn in its own lane. One rate holds for both directions.
 */
export function withoutSharedCounts({ settings, ...story }: Story): Story {
  const rate = settings.policing.uplink ?? settings.policing.downlink;
  return {
    ...story,
    settings: {
      ...settings,
      rekeyAfterPackets: REKEY_AFTER,
      policing: { uplink: rate, downlink: rate },
    },
    steps: story.steps.filter(
      (step) => step.do !== 'up' || step.tamper?.kind !== 'skip' || step.tamper.by !== WORN_OUT,
    ),
  };
}

/** The same story without any rate. */
export function unlimited(story: Story): Story {
  const { settings, ...rest } = withoutSharedCounts(story);
  return { ...rest, settings: { ...settings, policing: { uplink: null, downlink: null } } };
}
