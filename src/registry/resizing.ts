import { type Prefix, parsePrefix } from '../protocol/address.ts';
import { badInput, MooringError } from '../protocol/errors.ts';
import type { CheckedDeclaration, Closed, Plan, PlanPrefix, Segment } from './plan.ts';
import { MAX_LEASES, MAX_WIDTH, shapeOf, slotsAnAddress } from './plan.ts';
import { covers, offsetIn, overlap, partsOf, prefixText, without } from './prefix-sets.ts';

/** Tweaks of the permutation that one segment may use. */
const TWEAKS = 131_072;

/** An anchor that never was, grown or shrunk to what is declared now. */
export interface Resized {
  readonly plan: Plan;
  /** What is still leased of it, but not declared any more; `untilMs` by the registry's clock. */
  readonly draining: readonly { readonly prefix: string; readonly untilMs: number }[];
  /** Its slots are numbered anew: nobody may hold one of the old. */
  readonly isAnew: boolean;
}

/**
 * The plan under which an anchor leases what `declaration` says, from the one it has. A slot keeps its number and its
 * resources for ever: what is new gets further slots, what is taken out is closed, for leases that end at the latest
 * after the longest lease time. Throws ERR_MOORING_ANCHOR_FULL when it adds more than an anchor holds.
 */
export function resize(
  former: Plan | null,
  declaration: CheckedDeclaration,
  nowMs: number,
  newKey: () => readonly number[],
): Resized {
  const shape = shapeOf(declaration);
  const isAnew = former === null || !hasShape(former, shape);
  const plan: Plan = isAnew ? { ...shape, key: newKey(), slots: 0, capacity: 0, segments: [] } : former;
  const wanted = declaration.retiring ? [] : declaration.prefixes.map((text) => parsePrefix(text));
  const untilMs = nowMs + declaration.longestLeaseMs;
  const segments: Segment[] = plan.segments.map((segment) => ({
    ...segment,
    prefixes: segment.prefixes.map((prefix) => close(prefix, wanted, untilMs)),
  }));
  const known = segments.flatMap(({ prefixes }) =>
    prefixes.filter((prefix) => !isGone(prefix)).map(prefixOf),
  );
  const fresh = wanted.flatMap((prefix) => without(prefix, known));
  const grown: Plan = { ...plan, segments };
  if (fresh.length > 0) segments.push(segment(grown, fresh, declaration.id));
  const slots = segments.reduce((sum, one) => Math.max(sum, one.first + one.slots), plan.slots);
  return {
    plan: { ...grown, slots, capacity: openSlots(grown) },
    draining: drainingOf(grown),
    isAnew,
  };
}

/** The plan without the closed parts that `isDrained` says nobody has or just had. */
export function drained(plan: Plan, isDrained: (prefix: Prefix) => boolean): Plan {
  const segments = plan.segments
    .map((segment) => ({
      ...segment,
      prefixes: segment.prefixes.map((prefix) => ({
        ...prefix,
        ...(prefix.closed === undefined
          ? {}
          : { closed: prefix.closed.map((range) => emptied(prefix, range)) }),
      })),
    }))
    .filter(({ prefixes }) => !prefixes.every(isGone));
  return { ...plan, segments };

  function emptied(prefix: PlanPrefix, range: Closed): Closed {
    return !range.gone && partsIn(prefix, range).every(isDrained) ? { ...range, gone: true } : range;
  }
}

/** What is closed of a plan and not gone yet. */
export function drainingOf(plan: Plan): Resized['draining'] {
  return plan.segments.flatMap(({ prefixes }) =>
    prefixes.flatMap((prefix) =>
      (prefix.closed ?? [])
        .filter(({ gone }) => !gone)
        .flatMap((range) =>
          partsIn(prefix, range).map((part) => ({ prefix: prefixText(part), untilMs: range.untilMs })),
        ),
    ),
  );
}

/** A prefix with closed what is not wanted of it. What went before stays gone until it is wanted again. */
function close(prefix: PlanPrefix, wanted: readonly Prefix[], untilMs: number): PlanPrefix {
  const { closed: former = [], ...open } = prefix;
  if (isGone(prefix)) return prefix;
  const self = prefixOf(prefix);
  if (wanted.some((one) => covers(one, self))) return open;
  const kept = wanted.filter((one) => overlap(self, one));
  const size = 2 ** prefix.width;
  if (prefix.addresses < size) {
    if (kept.length === 0)
      return { ...open, closed: former.length > 0 ? former : [{ from: 0, count: size, untilMs }] };
    throw badInput(
      'anchor.prefixes',
      prefixText(kept[0]!),
      `it is a part of ${prefixText(self)}, which is too large to be drained in part; drain it as a whole first`,
    );
  }
  const each: (Omit<Closed, 'from' | 'count'> | null)[] = Array.from({ length: size }, () => ({ untilMs }));
  for (const { from, count, ...how } of former) each.fill(how, from, from + count);
  for (const part of kept) {
    const from = offsetIn(self, part);
    each.fill(null, from, from + 2 ** (part.bytes.length * 8 - part.bits));
  }
  return { ...open, closed: rangesOf(each) };
}

function rangesOf(each: readonly (Omit<Closed, 'from' | 'count'> | null)[]): Closed[] {
  const ranges: Closed[] = [];
  each.forEach((how, at) => {
    const last = ranges.at(-1);
    if (how === null) return;
    if (
      last !== undefined &&
      last.from + last.count === at &&
      last.untilMs === how.untilMs &&
      last.gone === how.gone
    ) {
      ranges[ranges.length - 1] = { ...last, count: last.count + 1 };
    } else ranges.push({ ...how, from: at, count: 1 });
  });
  return ranges;
}

function partsIn(prefix: PlanPrefix, { from, count }: Closed): Prefix[] {
  return count === 2 ** prefix.width ? [prefixOf(prefix)] : partsOf(prefixOf(prefix), from, count);
}

function segment(plan: Plan, fresh: readonly Prefix[], anchor: string): Plan['segments'][number] {
  const blocks = slotsAnAddress(plan);
  const room = MAX_LEASES - openSlots(plan);
  let addresses = 0;
  const prefixes = fresh.map((prefix) => {
    const width = Math.min(prefix.bytes.length * 8 - prefix.bits, MAX_WIDTH);
    const used = Math.min(2 ** width, room - addresses);
    if (used <= 0) {
      throw new MooringError(
        'ERR_MOORING_ANCHOR_FULL',
        `anchor ${anchor}: ${prefixText(prefix)} would add to ${MAX_LEASES} leases, which is all that an anchor holds; give it to another anchor`,
        { rsip: 205, data: { anchor, field: 'prefixes' } },
      );
    }
    addresses += used;
    return { hex: Buffer.from(prefix.bytes).toString('hex'), bits: prefix.bits, width, addresses: used };
  });
  const tweak = Math.max(-TWEAKS, ...plan.segments.map((one) => one.tweak)) + TWEAKS;
  return { first: plan.slots, slots: Math.min(room, addresses * blocks), addresses, tweak, prefixes };
}

/** How many slots may be leased. */
function openSlots(plan: Plan): number {
  return plan.segments.reduce((sum, { slots, addresses, prefixes }) => {
    const open = prefixes.reduce((count, prefix) => count + openAddresses(prefix), 0);
    return sum + Math.round((slots * open) / addresses);
  }, 0);
}

function openAddresses({ closed = [], width, addresses }: PlanPrefix): number {
  const count = closed.reduce((sum, range) => sum + range.count, 0);
  return count === 2 ** width ? 0 : addresses - count;
}

function isGone({ closed = [], width }: PlanPrefix): boolean {
  return closed.reduce((sum, { count, gone }) => sum + (gone ? count : 0), 0) === 2 ** width;
}

function prefixOf({ hex, bits }: PlanPrefix): Prefix {
  return { bytes: Uint8Array.from(Buffer.from(hex, 'hex')), bits };
}

function hasShape(plan: Plan, shape: ReturnType<typeof shapeOf>): boolean {
  return Object.entries(shape).every(([key, value]) => plan[key as keyof typeof shape] === value);
}
