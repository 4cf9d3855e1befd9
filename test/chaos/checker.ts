import { forwardingIn } from './forwarding.ts';
import type { Entry } from './history.ts';
import { type Holding, holdingsIn } from './holding.ts';
import { grouped, overlapMs, overlapping } from './intervals.ts';

/** A rule that the history breaks, and how. */
export interface Violation {
  readonly rule: Rule;
  readonly atMs: number;
  readonly what: string;
}

export type Rule =
  | 'an anchor is forwarded by one relay'
  | 'an epoch is one incarnation’s'
  | 'a resource is held by one device'
  | 'a resource is forwarded for one lease'
  | 'a resource that one holds is forwarded for no other'
  | 'a fence is given once'
  | 'fences never fall'
  | 'an acknowledged lease is kept'
  | 'nothing is forwarded past its end'
  | 'a resource rests before another device has it'
  | 'every failure has a name';

export interface Checked {
  readonly violations: readonly Violation[];
  /** What was looked at: a check of nothing finds nothing. */
  readonly counts: Readonly<Record<string, number>>;
}

export interface Terms {
  /** How long a resource rests, milliseconds. */
  readonly coolingMs: number;
  /** How far past its end a lease may be forwarded, milliseconds. */
  readonly lateMs: number;
  /** The same while the registry could not say, or was not believed. */
  readonly outageLateMs: number;
}

/** Checks a whole history against what Mooring promises. Where asking and answering leave room, it accuses nobody. */
export function check(entries: readonly Entry[], terms: Terms): Checked {
  const violations: Violation[] = [];
  const found = (rule: Rule, atMs: number, what: string) => void violations.push({ rule, atMs, what });
  const { anchors, leases } = forwardingIn(entries);
  const holdings = holdingsIn(entries);
  const held = [...holdings.values()];

  // One forwarder.
  for (const [anchor, all] of grouped(anchors, (one) => [one.anchor])) {
    for (const [a, b] of overlapping(all)) {
      if (a.relay === b.relay) continue;
      const forMs = overlapMs(a, b).toFixed(1);
      found(
        'an anchor is forwarded by one relay',
        b.fromMs,
        `${anchor}: by ${a.relay} (epoch ${a.epoch}) and ${b.relay} (epoch ${b.epoch}) for ${forMs} ms`,
      );
    }
    for (const [epoch, owners] of grouped(all, (one) => [one.epoch])) {
      const boots = new Set(owners.map(({ relay, boot }) => `${relay} ${boot}`));
      if (boots.size > 1)
        found(
          'an epoch is one incarnation’s',
          owners[0]!.fromMs,
          `${anchor} epoch ${epoch}: ${[...boots].join(', ')}`,
        );
    }
  }

  // One holder, one lease forwarded.
  for (const [resource, all] of grouped(held, (one) => one.resources)) {
    for (const [a, b] of overlapping(all)) {
      found(
        'a resource is held by one device',
        b.fromMs,
        `${resource}: by ${a.device} (${a.lease}) and ${b.device} (${b.lease}) for ${overlapMs(a, b).toFixed(1)} ms`,
      );
    }
  }
  const carriedBy = grouped(endedByRestart(entries, leases), (one) => one.resources);
  for (const [resource, all] of carriedBy) {
    for (const [a, b] of overlapping(all)) {
      if (a.lease === b.lease) continue;
      found(
        'a resource is forwarded for one lease',
        b.fromMs,
        `${resource}: ${a.lease} by ${a.relay} and ${b.lease} by ${b.relay} for ${overlapMs(a, b).toFixed(1)} ms`,
      );
    }
  }
  for (const one of held) {
    for (const resource of one.resources) {
      for (const other of carriedBy.get(resource) ?? []) {
        if (other.lease === one.lease || overlapMs(one, other) <= 0) continue;
        found(
          'a resource that one holds is forwarded for no other',
          Math.max(one.fromMs, other.fromMs),
          `${resource}: held as ${one.lease}, forwarded for ${other.lease} by ${other.relay}`,
        );
      }
    }
  }

  for (const entry of entries) {
    if (entry.type === 'operation' && entry.code?.startsWith('unnamed: '))
      found('every failure has a name', entry.atMs, `${entry.op} of ${entry.device}: ${entry.code}`);
  }
  for (const violation of fences(entries)) violations.push(violation);
  for (const violation of losses(entries, holdings)) violations.push(violation);

  // Past the end.
  const troubles = troubleIn(entries);
  for (const one of leases) {
    const holding = holdings.get(one.lease);
    if (holding === undefined) continue;
    const lateMs = one.toMs - holding.endsAtMost;
    const excused = troubles.some((trouble) => overlapMs(trouble, holding) > 0);
    if (lateMs > (excused ? terms.outageLateMs : terms.lateMs))
      found(
        'nothing is forwarded past its end',
        one.toMs,
        `${one.lease} by ${one.relay}, ${lateMs.toFixed(0)} ms late`,
      );
  }

  // Rest.
  for (const [resource, all] of grouped(held, (one) => one.resources)) {
    const sorted = all.sort((a, b) => a.askedMs - b.askedMs);
    for (const [at, one] of sorted.entries()) {
      for (const next of sorted.slice(at + 1)) {
        if (next.device === one.device) break;
        const restedAtMostMs = next.fromMs - one.toMs;
        if (restedAtMostMs < terms.coolingMs && next.fromMs > one.fromMs)
          found(
            'a resource rests before another device has it',
            next.fromMs,
            `${resource}: ${restedAtMostMs.toFixed(0)} ms after ${one.device} (${one.lease}) ${next.device} (${next.lease}) had it`,
          );
        break;
      }
    }
  }

  violations.sort((a, b) => a.atMs - b.atMs);
  return {
    violations,
    counts: {
      entries: entries.length,
      forwardedIntervals: anchors.length,
      carriedIntervals: leases.length,
      acknowledgedLeases: holdings.size,
      resources: carriedBy.size,
      fences: new Set(entries.flatMap((e) => ('fence' in e ? [`${e.anchor} ${e.fence}`] : []))).size,
    },
  };
}

/** What a former process of a relay forwarded is its present one's: the same host, the same data path. */
function endedByRestart<T extends { relay: string; boot: string; fromMs: number; toMs: number }>(
  entries: readonly Entry[],
  all: readonly T[],
): T[] {
  const starts = entries.filter((entry) => entry.type === 'started');
  return all.map((one) => {
    const next = starts.find(
      ({ relay, boot, atMs }) => relay === one.relay && boot !== one.boot && atMs > one.fromMs,
    );
    return next === undefined ? one : { ...one, toMs: Math.min(one.toMs, next.atMs) };
  });
}

/** A fence names one change of one device's, and who asks after an answer gets a higher one. */
function fences(entries: readonly Entry[]): Violation[] {
  const violations: Violation[] = [];
  const givenTo = new Map<string, { device: string; lease: string }>();
  const give = (
    atMs: number,
    anchor: string,
    fence: string,
    device: string,
    lease: string,
    resources: readonly string[],
  ) => {
    const known = givenTo.get(`${anchor} ${fence}`);
    if (known !== undefined && known.device !== device) {
      const what = `${anchor} ${fence}: ${known.lease} of ${known.device}, and ${lease} of ${device}`;
      violations.push({ rule: 'a fence is given once', atMs, what });
    }
    givenTo.set(`${anchor} ${fence}`, { device, lease });
    for (const resource of resources) {
      const name = `${resource} ${anchor} ${fence}`;
      const other = givenTo.get(name);
      if (other !== undefined && other.lease !== lease)
        violations.push({
          rule: 'a fence is given once',
          atMs,
          what: `${name}: ${other.lease} and ${lease}`,
        });
      givenTo.set(name, { device, lease });
    }
  };
  const answers: {
    anchor: string;
    askedMs: number;
    atMs: number;
    counter: bigint;
    fence: string;
    lease: string;
  }[] = [];
  for (const entry of entries) {
    if (entry.type === 'event')
      give(entry.atMs, entry.anchor, entry.fence, entry.device, entry.lease, entry.resources);
    if (entry.type !== 'operation' || entry.outcome !== 'done' || entry.lease === undefined) continue;
    const { id, anchor, fence, device, resources } = entry.lease;
    give(entry.atMs, anchor, fence, device, id, resources);
    // Attaching with the same key changes nothing and answers with an older fence; freeing answers with none.
    if (entry.op === 'lease' || entry.op === 'extend')
      answers.push({
        anchor,
        fence,
        lease: id,
        askedMs: entry.askedMs,
        atMs: entry.atMs,
        counter: counterOf(fence),
      });
  }
  for (const [, all] of grouped(answers, (one) => [one.anchor])) {
    const byAnswer = [...all].sort((a, b) => a.atMs - b.atMs);
    const byQuestion = [...all].sort((a, b) => a.askedMs - b.askedMs);
    let highest: (typeof all)[number] | undefined;
    let next = 0;
    for (const one of byQuestion) {
      for (; next < byAnswer.length && byAnswer[next]!.atMs < one.askedMs; next += 1) {
        if (highest === undefined || byAnswer[next]!.counter > highest.counter) highest = byAnswer[next]!;
      }
      if (highest !== undefined && one.counter <= highest.counter && one.lease !== highest.lease) {
        const what = `${one.anchor}: ${one.fence} (${one.lease}) was asked for after ${highest.fence} (${highest.lease}) was answered`;
        violations.push({ rule: 'fences never fall', atMs: one.atMs, what });
      }
    }
  }
  return violations;
}

function counterOf(fence: string): bigint {
  return BigInt(fence.slice(fence.indexOf('-') + 1));
}

const NOT_HELD = new Set(['ERR_MOORING_BAD_BIND', 'ERR_MOORING_NOT_YOUR_LEASE', 'ERR_MOORING_NO_LEASE']);

/** An acknowledged lease of which its device, a relay or the registry learnt that it is gone, though it should live. */
function losses(entries: readonly Entry[], holdings: ReadonlyMap<string, Holding>): Violation[] {
  const violations = new Map<string, Violation>();
  const lost = (holding: Holding, atMs: number, evidence: string) => {
    if (atMs <= holding.fromMs || atMs >= holding.toMs || violations.has(holding.lease)) return;
    if (hasNoWitness(entries, holding.lease, atMs)) return;
    const what = `${holding.lease} of ${holding.device} (${holding.resources[0]}): ${evidence}`;
    violations.set(holding.lease, { rule: 'an acknowledged lease is kept', atMs, what });
  };
  for (const entry of entries) {
    if (entry.type === 'operation' && entry.outcome === 'refused' && NOT_HELD.has(entry.code ?? '')) {
      const holding = holdings.get(entry.lease?.id ?? '');
      // The refusal came between question and answer: the lease must have been held at both.
      if (holding !== undefined && entry.op !== 'free' && entry.askedMs > holding.fromMs)
        lost(holding, entry.atMs, `${entry.op} was refused (${entry.code})`);
    }
    if (entry.type === 'event' && entry.kind === 'ended') {
      const holding = holdings.get(entry.lease);
      if (holding !== undefined) lost(holding, entry.atMs, `ended by event ${entry.fence}`);
    }
  }
  const lastHeld = new Map<string, Extract<Entry, { type: 'held' }>>();
  for (const entry of entries) if (entry.type === 'held') lastHeld.set(entry.anchor, entry);
  for (const holding of holdings.values()) {
    const final = lastHeld.get(holding.anchor);
    if (final === undefined) continue;
    const kept = final.leases.find(({ id }) => id === holding.lease);
    if (kept === undefined) lost(holding, final.atMs, 'the registry does not hold it at the end');
    else if (kept.device !== holding.device || kept.resources.join() !== holding.resources.join())
      lost(
        holding,
        final.atMs,
        `the registry holds it as ${kept.resources.join()} of ${kept.device} at the end`,
      );
  }
  return [...violations.values()];
}

/** Whoever had installed the lease last has lost memory and journal since. */
function hasNoWitness(entries: readonly Entry[], lease: string, atMs: number): boolean {
  let witness: string | undefined;
  let gone = false;
  for (const entry of entries) {
    if (entry.atMs >= atMs) break;
    if (entry.type === 'installs' && entry.lease === lease) {
      witness = entry.relay;
      gone = false;
    }
    if (entry.type === 'fault' && entry.what === 'witness-lost' && entry.where === witness) gone = true;
  }
  return gone;
}

/** From when a registry was broken, or not believed, until it was again. */
function troubleIn(entries: readonly Entry[]): { fromMs: number; toMs: number }[] {
  const AFTERMATH_MS = 30_000;
  return entries.flatMap((entry) =>
    entry.type === 'fault' || entry.type === 'quarantined'
      ? [{ fromMs: entry.atMs - 1_000, toMs: entry.atMs + AFTERMATH_MS }]
      : [],
  );
}
