import type { Timers } from '../sdk/timers.ts';
import { LinkJudge } from './link-judge.ts';
import { LinkQuality, type Measured } from './link-quality.ts';

/** While packets flow: the relay answers each by a sealed message, for every device. */
const BUSY_MS = 1_000;
/** While none do: often enough that a NAT keeps the mapping of the path not in use. */
const IDLE_MS = 15_000;

export interface LinkProberOptions {
  readonly timers: Timers;
  /** Asks over a link, and `answered` is called with that id, or not; false: not now. */
  readonly ask: (link: string, id: number) => boolean;
  /** After each round: `poor` are the links to be passed over. */
  readonly onVerdict: (poor: ReadonlySet<string>) => void;
}

/** Keeps every path warm while there is a choice, and measures it. With one link there is nothing to choose: it rests. */
export class LinkProber {
  readonly #options: LinkProberOptions;
  #judge = new LinkJudge();
  #qualities = new Map<string, LinkQuality>();
  #lastId = 0;
  #packets = 0;
  #isBusy = true;
  #cancel: (() => void) | null = null;

  constructor(options: LinkProberOptions) {
    this.#options = options;
  }

  /** The links to choose from; none while the tunnel is not bound. One that was measured before goes on. */
  watch(links: readonly string[]): void {
    const watched = links.length > 1 ? links : [];
    if (watched.length === this.#qualities.size && watched.every((link) => this.#qualities.has(link))) return;
    this.#qualities = new Map(
      watched.map((link) => [link, this.#qualities.get(link) ?? new LinkQuality()] as const),
    );
    this.#cancel?.();
    this.#cancel = null;
    if (watched.length > 0) this.#round();
  }

  /** `packets`: how many the tunnel has carried so far. */
  answered(link: string, id: number, rttMs: number, packets: number): void {
    this.#qualities.get(link)?.answered(id, rttMs, this.#options.timers.nowMs());
    const isBusy = packets !== this.#packets;
    this.#packets = packets;
    if (isBusy && !this.#isBusy) this.#next(BUSY_MS);
    this.#isBusy = isBusy;
  }

  measured(link: string): Measured | null {
    return this.#qualities.get(link)?.measured ?? null;
  }

  /** The link answered just now. */
  isAnswering(link: string): boolean {
    return this.#qualities.get(link)?.isAnswering(this.#options.timers.nowMs()) ?? false;
  }

  /** What was measured belongs to another network, or to sockets that are gone. */
  forget(link: string): void {
    if (this.#qualities.has(link)) this.#qualities.set(link, new LinkQuality());
  }

  close(): void {
    this.#cancel?.();
    this.#cancel = null;
    this.#qualities.clear();
  }

  #round(): void {
    const { timers, ask, onVerdict } = this.#options;
    const nowMs = timers.nowMs();
    this.#next(this.#isBusy ? BUSY_MS : IDLE_MS);
    const costs = new Map<string, number | null>();
    for (const [link, quality] of this.#qualities) {
      quality.pass(nowMs);
      costs.set(link, quality.costMs);
      this.#lastId += 1;
      if (ask(link, this.#lastId)) quality.sent(this.#lastId, nowMs);
    }
    onVerdict(this.#judge.judge(costs, nowMs));
  }

  #next(afterMs: number): void {
    this.#cancel?.();
    this.#cancel = this.#options.timers.after(afterMs, () => this.#round());
  }
}
