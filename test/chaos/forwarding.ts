import type { Entry } from './history.ts';
import type { Interval } from './intervals.ts';

/** A relay forwarded for an anchor. */
export interface Forwarded extends Interval {
  readonly relay: string;
  readonly boot: string;
  readonly anchor: string;
  readonly epoch: string;
}

/** A relay forwarded for a lease. */
export interface Carried extends Interval {
  readonly relay: string;
  readonly boot: string;
  readonly anchor: string;
  readonly lease: string;
  readonly resources: readonly string[];
}

/** A deadline that moves while it has not passed, and begins anew when it has. */
interface Span {
  fromMs: number;
  untilMs: number;
}

interface Served {
  epoch: string;
  span: Span | null;
  readonly leases: Map<string, { resources: readonly string[]; span: Span }>;
}

/**
 * Who forwarded for what, and when, by what the relays wrote: from installation to deadline or end, whichever came
 * first. A killed or stopped process forwards until its deadline: its data path may live without it.
 */
export function forwardingIn(entries: readonly Entry[]): { anchors: Forwarded[]; leases: Carried[] } {
  const anchors: Forwarded[] = [];
  const parts: (Carried & { readonly served: Served })[] = [];
  const spansOf = new Map<Served, Interval[]>();
  const incarnations = new Map<string, { relay: string; boot: string; served: Map<string, Served> }>();

  const close = (span: Span, atMs: number): Interval => ({
    fromMs: span.fromMs,
    toMs: Math.min(span.untilMs, atMs),
  });

  function endAnchor(of: { relay: string; boot: string }, anchor: string, served: Served, atMs: number) {
    if (served.span === null) return;
    const interval = close(served.span, atMs);
    served.span = null;
    if (interval.toMs <= interval.fromMs) return;
    anchors.push({ relay: of.relay, boot: of.boot, anchor, epoch: served.epoch, ...interval });
    spansOf.set(served, [...(spansOf.get(served) ?? []), interval]);
  }

  function endLease(
    of: { relay: string; boot: string },
    anchor: string,
    served: Served,
    id: string,
    atMs: number,
  ) {
    const lease = served.leases.get(id);
    if (lease === undefined) return;
    served.leases.delete(id);
    const { relay, boot } = of;
    parts.push({
      relay,
      boot,
      anchor,
      lease: id,
      resources: lease.resources,
      served,
      ...close(lease.span, atMs),
    });
  }

  for (const entry of entries) {
    if (!('boot' in entry)) continue;
    const name = `${entry.relay} ${entry.boot}`;
    const of = incarnations.get(name) ?? { relay: entry.relay, boot: entry.boot, served: new Map() };
    incarnations.set(name, of);
    if (entry.type === 'started') continue;
    const { anchor, atMs } = entry;
    const known = of.served.get(anchor);
    switch (entry.type) {
      case 'serves': {
        const served = known ?? { epoch: entry.epoch, span: null, leases: new Map() };
        endAnchor(of, anchor, served, atMs);
        served.epoch = entry.epoch;
        served.span = { fromMs: atMs, untilMs: entry.untilMs };
        of.served.set(anchor, served);
        break;
      }
      case 'deadline': {
        if (known?.span == null) break;
        if (atMs <= known.span.untilMs) {
          known.span.untilMs = entry.untilMs;
        } else {
          endAnchor(of, anchor, known, atMs);
          known.span = { fromMs: atMs, untilMs: entry.untilMs };
        }
        break;
      }
      case 'stops':
        if (known === undefined) break;
        endAnchor(of, anchor, known, atMs);
        for (const id of [...known.leases.keys()]) endLease(of, anchor, known, id, atMs);
        of.served.delete(anchor);
        break;
      case 'installs': {
        // Of an anchor that is only followed: it waits for the day when it is served.
        const served = known ?? { epoch: '', span: null, leases: new Map() };
        of.served.set(anchor, served);
        const lease = served.leases.get(entry.lease);
        if (lease !== undefined && atMs <= lease.span.untilMs) {
          lease.span.untilMs = entry.untilMs;
          break;
        }
        endLease(of, anchor, served, entry.lease, atMs);
        const span = { fromMs: atMs, untilMs: entry.untilMs };
        served.leases.set(entry.lease, { resources: entry.resources, span });
        break;
      }
      case 'uninstalls':
        if (known !== undefined) endLease(of, anchor, known, entry.lease, atMs);
        break;
      default:
        entry satisfies never;
    }
  }
  for (const of of incarnations.values()) {
    for (const [anchor, served] of of.served) {
      endAnchor(of, anchor, served, Number.POSITIVE_INFINITY);
      for (const id of [...served.leases.keys()]) endLease(of, anchor, served, id, Number.POSITIVE_INFINITY);
    }
  }
  const leases = parts.flatMap(({ served, ...part }) =>
    (spansOf.get(served) ?? []).flatMap((span) => {
      const both = { fromMs: Math.max(part.fromMs, span.fromMs), toMs: Math.min(part.toMs, span.toMs) };
      return both.toMs > both.fromMs ? [{ ...part, ...both }] : [];
    }),
  );
  return { anchors, leases };
}
