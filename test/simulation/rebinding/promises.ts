import type { SocketAddress } from '../../../src/protocol/address.ts';
import type { ControlDraft } from '../../../src/tunnel/message.ts';
import { CONTROL } from '../../../src/tunnel/wire.ts';
import type { SimulatedClock } from './clock.ts';

/** A hold ends after this time at the latest, milliseconds. */
const LONGEST_HOLD_MS = 2_000;

/** What a relay's state machine promises to the network and to its device, judged as it happens. */
export class RebindingPromises {
  /** Every promise that was not kept, with its time. */
  readonly broken: string[] = [];
  readonly #clock: SimulatedClock;
  #octetsFrom = new Map<string, number>();
  #octetsTo = new Map<string, number>();
  #proven = new Set<string>();
  /** Where a challenge has reached the device, by the incarnation that sent it. */
  readonly #challenged = new Set<string>();
  readonly #generations = new Map<string, number>();
  readonly #begun = new Set<string>();

  constructor(clock: SimulatedClock) {
    this.#clock = clock;
  }

  break(what: string): void {
    this.broken.push(`at ${this.#clock.nowMs.toFixed(1)} ms: ${what}`);
  }

  /** What an incarnation has seen of the network is not known to the next. */
  relayBegins(): void {
    this.#octetsFrom = new Map();
    this.#octetsTo = new Map();
    this.#proven = new Set();
  }

  /** So much may be sent to an unproven address. */
  grant(to: SocketAddress, octets: number): void {
    this.#octetsFrom.set(to.key, (this.#octetsFrom.get(to.key) ?? 0) + octets);
  }

  proven({ key }: SocketAddress): void {
    this.#proven.add(key);
  }

  challenged(relayBoot: bigint, { key }: SocketAddress): void {
    this.#challenged.add(`${relayBoot}/${key}`);
  }

  /** What the next incarnation is told of the one before. */
  accepted(scope: string, generation: number): void {
    this.#generations.set(scope, generation);
  }

  /** Nothing but challenges and syncs goes to an unproven address, and no more octets than came from it. */
  sent(to: SocketAddress, draft: ControlDraft): void {
    if (this.#proven.has(to.key)) return;
    if (draft.kind !== 'challenge' && draft.kind !== 'sync') this.break(`a ${draft.kind} went to ${to.key}`);
    const sent = (this.#octetsTo.get(to.key) ?? 0) + CONTROL.length;
    this.#octetsTo.set(to.key, sent);
    if (sent > (this.#octetsFrom.get(to.key) ?? 0)) this.break(`${to.key} was sent more than came from it`);
  }

  held(forMs: number): void {
    if (forMs > LONGEST_HOLD_MS) this.break('a hold is longer than promised');
  }

  flipped(path: SocketAddress, relayBoot: bigint, isHolding: boolean): void {
    if (isHolding) this.break('the path flipped before its queue was released');
    if (!this.#challenged.has(`${relayBoot}/${path.key}`)) {
      this.break(`the path is ${path.key}, where the device was never reached`);
    }
    this.proven(path);
  }

  began(key: string): void {
    if (this.#begun.has(key)) this.break(`the relay began the key ${key} twice`);
    this.#begun.add(key);
  }

  moved(scope: string, generation: number): void {
    if (generation < (this.#generations.get(scope) ?? 0)) {
      this.break(`the accepted generation fell to ${generation}`);
    }
    this.accepted(scope, generation);
  }
}
