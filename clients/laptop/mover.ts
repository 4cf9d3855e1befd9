import { type SocketAddress, socketAddress } from '../../src/protocol/address.ts';
import { MooringError } from '../../src/protocol/errors.ts';
import type { Log } from '../../src/telemetry/log.ts';
import type { OldPath } from '../../src/tunnel/wire.ts';
import type { DeviceSessionEvent } from '../sdk/session.ts';
import type { Timers } from '../sdk/timers.ts';
import { type AccessLink, chooseLink, matchesGlob } from './link-choice.ts';
import { LinkProber } from './link-prober.ts';
import { type Nat64Prefix, synthesised } from './nat64.ts';
import type { ToPacketWorker, TunnelLink } from './packet-messages.ts';
import type { LinkStatus, Move } from './status.ts';

/** A link that stays unanswered this long is left for another one. */
const UNANSWERED_MS = 3_000;
/** And not tried again for this long while there is another one. */
const AVOID_MS = 30_000;
const MOVES_KEPT = 64;

export interface MoverOptions {
  /** Globs in order of preference. */
  readonly order: readonly string[];
  readonly endpoints: readonly SocketAddress[];
  /** What leads to IPv4 from a network without it; null: nothing. */
  readonly translator: () => Nat64Prefix | null;
  readonly post: (message: ToPacketWorker) => void;
  readonly timers: Timers;
  readonly wallMs: () => number;
  readonly log: Log;
  /** The link in use, or its state, changed. */
  readonly onChange: () => void;
}

/** Decides which link carries the tunnel, and tells the packet worker. */
export class Mover {
  readonly #options: MoverOptions;
  #links: readonly AccessLink[] = [];
  #current: AccessLink | null = null;
  /** Where the relay is as seen from there. */
  #endpoint = '';
  /** What the relay last confirmed. */
  #bound: string | null = null;
  #wanted: string | null = null;
  /** Links that the packet worker has a socket on, with their interface index. */
  readonly #used = new Map<string, number>();
  readonly #avoided = new Set<string>();
  #poor: ReadonlySet<string> = new Set();
  readonly #prober: LinkProber;
  readonly #cancels = new Set<() => void>();
  #cancelUnanswered: () => void = () => {};
  #moves: Move[] = [];
  readonly #waiters = new Map<string, Set<(move: Move) => void>>();

  constructor(options: MoverOptions) {
    this.#options = options;
    this.#prober = new LinkProber({
      timers: options.timers,
      ask: (id, probe) => this.#probe(id, probe),
      onVerdict: (poor) => {
        this.#poor = poor;
        this.#decide();
      },
    });
  }

  get links(): readonly LinkStatus[] {
    return this.#links.map((link) => ({
      ...link,
      measured: this.#prober.measured(link.id),
      passedOver: this.#poor.has(link.id),
    }));
  }

  get wanted(): string | null {
    return this.#wanted;
  }

  get moves(): readonly Move[] {
    return this.#moves;
  }

  get state(): 'binding' | 'bound' | 'offline' {
    if (this.#current === null) return 'offline';
    return this.#bound === this.#current.id ? 'bound' : 'binding';
  }

  /** The access links as they are now. */
  update(links: readonly AccessLink[]): void {
    const former = this.#links;
    this.#links = links.filter((link) => this.#endpointFor(link) !== null);
    for (const link of this.#links) {
      const before = former.find(({ id }) => id === link.id);
      if (before !== undefined && !sameNetwork(link, before)) this.#prober.forget(link.id);
    }
    for (const id of this.#avoided) {
      if (!this.#links.some((link) => link.id === id)) this.#avoided.delete(id);
    }
    this.#forgetGone();
    this.#decide();
  }

  /** Prefers a link from now on (null: none); resolves when the relay sends there. */
  use(link: string | null): Promise<Move | null> {
    if (link !== null && !this.#links.some(({ id }) => id === link)) {
      const names = this.#links.map(({ id }) => id).join(', ') || 'none';
      return Promise.reject(
        new MooringError(
          'ERR_MOORING_NO_LINK',
          `${link} has no address and default route now; usable: ${names}`,
        ),
      );
    }
    this.#wanted = link;
    if (link !== null) this.#avoided.delete(link);
    const inUse = this.#current?.id === link && this.#bound === link;
    if (link === null || inUse) {
      this.#decide();
      return Promise.resolve(this.#moves.at(-1) ?? null);
    }
    return new Promise((resolve, reject) => {
      const waiters = this.#waiters.get(link) ?? new Set();
      this.#waiters.set(link, waiters);
      const arrived = (move: Move): void => {
        cancel();
        resolve(move);
      };
      const cancel = this.#later(15_000, () => {
        waiters.delete(arrived);
        reject(
          new MooringError('ERR_MOORING_TIMEOUT', `the relay did not answer over ${link} within 15 s`, {
            temporary: true,
          }),
        );
      });
      waiters.add(arrived);
      this.#decide();
    });
  }

  /** What the session reports. */
  sessionEvent(event: DeviceSessionEvent): void {
    const { log } = this.#options;
    switch (event.type) {
      case 'bound': {
        const { link, generation, tookMs, rttMs, observed } = event;
        this.#bound = link;
        if (link === this.#current?.id) this.#cancelUnanswered();
        this.#confirm({ generation, tookMs, rttMs, observed: observed?.key ?? null }, link);
        log.info({ link, generation, tookMs, rttMs, observed: observed?.key }, 'bound');
        this.#watchLinks();
        break;
      }
      case 'lost':
        this.#bound = null;
        log.warn({ link: this.#current?.id, reason: event.reason }, 'the relay does not reach us: rebinding');
        if (event.reason === 'unanswered') this.#leaveForAnAnsweringLink();
        this.#watchForAnswer();
        break;
      case 'answered':
        this.#prober.answered(event.link, event.id, event.rttMs, event.packets);
        // Of interest when someone asks: not each time.
        return;
      case 'notice':
        log.warn({ rsip: event.code }, 'the relay refuses something');
        break;
      case 'keys':
        log.info({ epoch: String(event.epoch), keyNumber: event.keyNumber }, 'new keys');
        break;
      default:
        event satisfies never;
    }
    this.#options.onChange();
  }

  /** The packet worker could not open a socket on it. */
  linkFailed(link: string, message: string): void {
    if (this.#current?.id !== link) {
      this.#options.log.debug({ link, error: message }, 'cannot measure this link');
      return;
    }
    this.#options.log.warn({ link, error: message }, 'cannot use this link');
    this.#current = null;
    this.#avoid(link);
    this.#decide();
  }

  /** The packet worker began anew, without links. */
  restarted(): void {
    this.#current = null;
    this.#bound = null;
    this.#used.clear();
    this.#decide();
  }

  /** The machine was suspended: who knows what became of the path meanwhile. It is asked for anew, and measured anew. */
  woke(): void {
    for (const { id } of this.#links) this.#prober.forget(id);
    const current = this.#current;
    if (current === null || this.#links.every(({ id }) => id !== current.id)) return;
    this.#bound = null;
    this.#go(current, current.id, 'unknown');
  }

  close(): void {
    this.#prober.close();
    this.#cancelUnanswered();
    for (const cancel of [...this.#cancels]) cancel();
    this.#cancels.clear();
  }

  #decide(): void {
    const { order, log, onChange } = this.#options;
    const former = this.#current;
    const now = former === null ? null : (this.#links.find(({ id }) => id === former.id) ?? null);
    const alive =
      now !== null &&
      former !== null &&
      sameNetwork(now, former) &&
      this.#endpointFor(now)?.key === this.#endpoint;
    const choice = chooseLink(this.#links, {
      order,
      wanted: this.#wanted,
      avoided: this.#avoided,
      poor: this.#poor,
      current: former?.id ?? null,
    });
    if (alive && choice?.id === former?.id) {
      this.#watchLinks();
      return;
    }
    if (choice === null) {
      this.#current = null;
      this.#watchLinks();
      this.#cancelUnanswered();
      if (former !== null) log.warn({ link: former.id }, 'no access network left');
      onChange();
      return;
    }
    const oldPath = this.#oldPath(former !== null, alive);
    this.#go(choice, former?.id ?? null, oldPath);
  }

  #go(choice: AccessLink, from: string | null, oldPath: OldPath): void {
    const { post, log, onChange } = this.#options;
    this.#current = choice;
    if (choice.id === from) this.#bound = null;
    this.#moves = [
      ...this.#moves.slice(1 - MOVES_KEPT),
      { atMs: this.#options.wallMs(), from, to: choice.id, oldPath, bound: null },
    ];
    log.info({ from, to: choice.id, oldPath }, 'moving');
    this.#used.set(choice.id, choice.ifindex);
    const link = this.#tunnelLink(choice);
    this.#endpoint = link.endpoint.key;
    post({ op: 'use', link, oldPath });
    this.#watchForAnswer();
    onChange();
  }

  /** Measured is what could be chosen, and not while a move is under way. */
  #watchLinks(): void {
    const isBound = this.state === 'bound';
    const candidates = this.#links.filter(({ id }) =>
      this.#options.order.some((glob) => matchesGlob(glob, id)),
    );
    if (isBound || candidates.length < 2) this.#prober.watch(candidates.map(({ id }) => id));
  }

  #probe(id: string, probe: number): boolean {
    const link = this.#links.find((other) => other.id === id);
    if (link === undefined || this.state !== 'bound') return false;
    this.#used.set(link.id, link.ifindex);
    this.#options.post({ op: 'probe', link: this.#tunnelLink(link), id: probe });
    return true;
  }

  /** The path in use is silent: with one that answers just now it is not waited for. */
  #leaveForAnAnsweringLink(): void {
    const current = this.#current?.id;
    if (current === undefined || current === this.#wanted) return;
    if (!this.#links.some(({ id }) => id !== current && this.#prober.isAnswering(id))) return;
    this.#avoid(current);
    this.#decide();
  }

  #oldPath(hasFormer: boolean, alive: boolean): OldPath {
    // In the first move of this life, the relay may still send to where we were before: nobody knows.
    if (!hasFormer) return this.#moves.length === 0 ? 'unknown' : 'dead';
    if (!alive) return 'dead';
    return this.#bound === null ? 'unknown' : 'alive';
  }

  #forgetGone(): void {
    for (const [id, ifindex] of this.#used) {
      if (this.#links.some((link) => link.id === id && link.ifindex === ifindex)) continue;
      this.#used.delete(id);
      this.#options.post({ op: 'link-gone', id });
      if (this.#bound === id) this.#bound = null;
    }
  }

  #confirm(bound: NonNullable<Move['bound']>, link: string): void {
    const last = this.#moves.at(-1);
    if (last === undefined || last.to !== link) return;
    // A NAT that changed its port rebinds without a move of ours: the newest word counts.
    const move = { ...last, bound: last.bound ?? bound };
    this.#moves = [...this.#moves.slice(0, -1), move];
    for (const arrived of this.#waiters.get(link) ?? []) arrived(move);
    this.#waiters.delete(link);
  }

  #watchForAnswer(): void {
    this.#cancelUnanswered();
    const link = this.#current?.id;
    if (link === undefined) return;
    this.#cancelUnanswered = this.#later(UNANSWERED_MS, () => {
      if (this.#current?.id !== link || this.#bound === link) return;
      this.#avoid(link);
      this.#decide();
      // Alone, it is tried for as long as it is there.
      if (this.#current?.id === link) this.#watchForAnswer();
    });
  }

  #avoid(link: string): void {
    if (this.#avoided.has(link)) return;
    this.#avoided.add(link);
    this.#later(AVOID_MS, () => {
      this.#avoided.delete(link);
      this.#decide();
    });
  }

  #later(delayMs: number, run: () => void): () => void {
    const cancel = this.#options.timers.after(delayMs, () => {
      this.#cancels.delete(cancel);
      run();
    });
    this.#cancels.add(cancel);
    return () => {
      this.#cancels.delete(cancel);
      cancel();
    };
  }

  #endpointFor(link: AccessLink): SocketAddress | null {
    return endpointFor(link, this.#options.endpoints, this.#options.translator());
  }

  #tunnelLink(link: AccessLink): TunnelLink {
    const endpoint = this.#endpointFor(link);
    if (endpoint === null) throw new Error(`${link.id} has no address of the tunnel's family`);
    return { id: link.id, ifindex: link.ifindex, endpoint };
  }
}

/** Where the relay is as seen from this link; null: nowhere. */
export function endpointFor(
  { addresses }: Pick<AccessLink, 'addresses'>,
  endpoints: readonly SocketAddress[],
  translator: Nat64Prefix | null,
): SocketAddress | null {
  const isV6 = (address: string): boolean => address.includes(':');
  const families = new Set(addresses.map(isV6));
  const direct = endpoints.find(({ address }) => families.has(isV6(address)));
  if (direct !== undefined) return direct;
  const [first] = endpoints;
  if (first === undefined || translator === null || !families.has(true)) return null;
  return socketAddress(synthesised(translator, first.address), first.port);
}

/** The address that a link's tunnel socket sends from, as far as can be told from its addresses. */
export function believedAddress(
  link: AccessLink,
  endpoint: SocketAddress,
  port: number,
): SocketAddress | null {
  const v6 = endpoint.address.includes(':');
  const address = link.addresses.find((candidate) => candidate.includes(':') === v6);
  return address === undefined ? null : socketAddress(address, port);
}

function sameNetwork(one: AccessLink, other: AccessLink): boolean {
  return (
    one.ifindex === other.ifindex &&
    one.addresses.length > 0 &&
    // A second address that comes or goes beside the first one does not end the path.
    one.addresses[0] === other.addresses[0]
  );
}
