import type { Lease, PathHint } from '../../protocol/lease.ts';
import type { ControlKeys } from '../../tunnel/control.ts';
import type { EngineSession } from '../engine-api.ts';

export interface FollowedLease {
  readonly lease: Lease;
  readonly untilMs: number;
}

export interface FollowedSession {
  readonly session: EngineSession;
  readonly keys: ControlKeys;
  readonly leases: Map<string, FollowedLease>;
}

/**
 * An anchor of another relay as its standby has it: all that its installation needs, derived beforehand. Nothing of it is in a
 * table that packets are looked up in.
 */
export class FollowedAnchor {
  readonly sessions = new Map<string, FollowedSession>();
  readonly byIndex = new Map<number, FollowedSession>();
  readonly #holders = new Map<string, FollowedSession>();
  readonly #derive: (root: Uint8Array) => ControlKeys;

  constructor(derive: (root: Uint8Array) => ControlKeys) {
    this.#derive = derive;
  }

  putSession(session: EngineSession): void {
    const { id, index } = session;
    if (this.sessions.get(id)?.session.index === index) return;
    for (const old of [this.sessions.get(id), this.byIndex.get(index)]) {
      if (old !== undefined) this.dropSession(old.session.id);
    }
    const added = { session, keys: this.#derive(session.root), leases: new Map() };
    this.sessions.set(id, added);
    this.byIndex.set(index, added);
  }

  dropSession(id: string): void {
    const session = this.sessions.get(id);
    if (session === undefined) return;
    this.sessions.delete(id);
    this.byIndex.delete(session.session.index);
    for (const lease of session.leases.keys()) this.#holders.delete(lease);
  }

  /** False when its session is not followed. */
  putLease(lease: Lease, untilMs: number): boolean {
    const holder = this.sessions.get(lease.session);
    if (holder === undefined) return false;
    this.dropLease(lease.id);
    holder.leases.set(lease.id, { lease, untilMs });
    this.#holders.set(lease.id, holder);
    return true;
  }

  dropLease(id: string): void {
    this.#holders.get(id)?.leases.delete(id);
    this.#holders.delete(id);
  }

  /** Where sessions were last proven. */
  putHints(hints: readonly PathHint[]): void {
    for (const hint of hints) {
      const known = this.sessions.get(hint.session);
      if (known === undefined) continue;
      const session = { ...known, session: { ...known.session, hint } };
      this.sessions.set(hint.session, session);
      this.byIndex.set(session.session.index, session);
      for (const lease of session.leases.keys()) this.#holders.set(lease, session);
    }
  }
}
