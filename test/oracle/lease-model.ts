/**
 * The lease rules of one anchor, as a small model: what may be leased, to whom, for how long. Deliberately naive
 * (it enumerates) and without Redis, so that agreement with the scripts says something.
 */

export interface ModelLease {
  readonly id: string;
  readonly device: string;
  /** Its own first, then those that it has doubled into. */
  slots: readonly string[];
  readonly spis: string;
  state: 'pending' | 'active';
  expiresAtMs: number;
  readonly pendingUntilMs: number;
}

export type Verdict =
  | 'ok'
  | 'exhausted'
  | 'bad-bind'
  | 'ports-unavailable'
  | 'withdrawn'
  | 'ended'
  | 'not-pending'
  | 'no-owner';

interface Answered {
  readonly verdict: Verdict;
  readonly lease?: string;
}

const PENDING_MS = 10_000;

export class LeaseModel {
  readonly capacity: number;
  readonly coolingMs: number;
  nowMs = 0;
  readonly leases = new Map<string, ModelLease>();
  /** Resource (as text) → who had it last and when it is cool. */
  readonly resting = new Map<string, { device: string; coolAtMs: number }>();
  readonly everUsed = new Set<string>();
  readonly requests = new Map<string, Answered>();

  constructor(capacity: number, coolingMs: number) {
    this.capacity = capacity;
    this.coolingMs = coolingMs;
  }

  over(lease: ModelLease): boolean {
    return (
      lease.expiresAtMs <= this.nowMs || (lease.state === 'pending' && lease.pendingUntilMs <= this.nowMs)
    );
  }

  /** What a grant must answer, before it is asked. */
  expectGrant(request: string, device: string): Verdict {
    const answered = this.requests.get(request);
    if (answered !== undefined) {
      if (answered.verdict !== 'ok') return answered.verdict;
      const lease = this.leases.get(answered.lease!);
      if (lease === undefined || (this.over(lease) && lease.state === 'active')) return 'ended';
      return this.over(lease) ? 'withdrawn' : 'ok';
    }
    const own = [...this.resting.values()].some((one) => one.device === device);
    const fresh = this.everUsed.size < this.capacity;
    const cool = [...this.resting.values()].some((one) => one.coolAtMs <= this.nowMs);
    return own || fresh || cool ? 'ok' : 'exhausted';
  }

  /** Judges the resource that a new grant came with; returns what is wrong with it. */
  granted(
    request: string,
    device: string,
    id: string,
    { slot, spis }: { slot: string; spis: string },
    leaseMs: number,
  ): string | undefined {
    for (const other of this.leases.values()) {
      if (other.slots.includes(slot)) return `${slot} is leased to ${other.device} already`;
    }
    const rest = this.resting.get(slot);
    const own = [...this.resting.values()].some((one) => one.device === device);
    if (own && rest?.device !== device) return `${device} did not get back what it had`;
    if (rest !== undefined && rest.device !== device) {
      if (rest.coolAtMs > this.nowMs) return `${slot} of ${rest.device} went to ${device} while cooling`;
      if (this.everUsed.size < this.capacity) return `${slot} was used again before a fresh one`;
      const longest = Math.min(...[...this.resting.values()].map((one) => one.coolAtMs));
      if (rest.coolAtMs !== longest) return `${slot} was not the longest cooled`;
    }
    this.resting.delete(slot);
    this.everUsed.add(slot);
    this.leases.set(id, {
      id,
      device,
      slots: [slot],
      spis,
      state: 'pending',
      expiresAtMs: this.nowMs + leaseMs,
      pendingUntilMs: this.nowMs + Math.min(PENDING_MS, leaseMs),
    });
    this.requests.set(request, { verdict: 'ok', lease: id });
    return undefined;
  }

  refused(request: string, verdict: Verdict): void {
    const answered = this.requests.get(request);
    if (answered === undefined) {
      this.requests.set(request, { verdict });
    } else if (verdict === 'withdrawn' && answered.lease !== undefined) {
      const lease = this.leases.get(answered.lease);
      if (lease !== undefined) this.end(lease, 'withdrawn');
    }
  }

  /** Whether a lease may have these slots, its own among them; null: the anchor has not all of them. */
  expectDoubled(lease: ModelLease, slots: readonly string[] | null): Verdict {
    const isFree = (slot: string) => {
      const rest = this.resting.get(slot);
      if (rest !== undefined) return rest.device === lease.device || rest.coolAtMs <= this.nowMs;
      return ![...this.leases.values()].some((other) => other !== lease && other.slots.includes(slot));
    };
    return slots?.every((slot) => lease.slots.includes(slot) || isFree(slot)) ? 'ok' : 'ports-unavailable';
  }

  doubled(lease: ModelLease, slots: readonly string[]): void {
    for (const slot of slots) {
      this.resting.delete(slot);
      this.everUsed.add(slot);
    }
    lease.slots = slots;
  }

  end(lease: ModelLease, as: 'withdrawn' | 'ended'): void {
    this.leases.delete(lease.id);
    for (const slot of lease.slots) {
      this.resting.set(slot, { device: lease.device, coolAtMs: this.nowMs + this.coolingMs });
    }
    for (const [request, answered] of this.requests) {
      if (answered.lease === lease.id) this.requests.set(request, { verdict: as });
    }
  }

  /** A lease that its device can still do something with. */
  heldBy(id: string, device: string): ModelLease | undefined {
    const lease = this.leases.get(id);
    return lease !== undefined && lease.device === device && !this.over(lease) ? lease : undefined;
  }

  /** Ends what is due; returns the ids. */
  sweep(): string[] {
    const due = [...this.leases.values()].filter((lease) => this.over(lease));
    for (const lease of due) this.end(lease, lease.state === 'pending' ? 'withdrawn' : 'ended');
    return due.map((lease) => lease.id);
  }
}
