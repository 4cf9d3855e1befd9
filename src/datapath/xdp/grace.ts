/** Asks for `done` to be called when no packet is under way any more that was when it asked. */
export type AskGrace = (done: () => void) => void;

/**
 * What must wait until no packet in the program can know of the state before: places of slots, keys and windows are
 * used again only then. Many waits share one grace period.
 */
export class Grace {
  readonly #ask: AskGrace;
  #next: (() => void)[] = [];
  #running = false;

  constructor(ask: AskGrace) {
    this.#ask = ask;
  }

  after(work: () => void): void {
    this.#next.push(work);
    this.#start();
  }

  #start(): void {
    if (this.#running || this.#next.length === 0) return;
    this.#running = true;
    const works = this.#next;
    this.#next = [];
    this.#ask(() => {
      this.#running = false;
      for (const work of works) work();
      this.#start();
    });
  }
}
