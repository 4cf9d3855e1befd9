import type { RandomOctets } from '../relay-io.ts';

/** A challenge that was sent and may still be answered. */
export interface OpenChallenge {
  readonly cookie: Uint8Array;
  readonly sentMs: number;
  /** The DATA key number that it told the device: whoever answers has that key. */
  readonly keyNumber: number;
}

/** As many as one rebind's retransmissions need; older ones are forgotten first. */
const REMEMBERED = 16;

/** The open challenges to one address: every attempt has its own cookie of 16 random octets, so a round trip is never mistaken. */
export class Challenges {
  #open: OpenChallenge[] = [];
  readonly #random: RandomOctets;

  constructor(random: RandomOctets) {
    this.#random = random;
  }

  issue(nowMs: number, keyNumber: number): OpenChallenge {
    const challenge = { cookie: this.#random(16), sentMs: nowMs, keyNumber };
    this.#open.push(challenge);
    if (this.#open.length > REMEMBERED) this.#open.shift();
    return challenge;
  }

  /** The challenge that `cookie` answers. */
  match(cookie: Uint8Array): OpenChallenge | null {
    return this.#open.find((challenge) => sameOctets(challenge.cookie, cookie)) ?? null;
  }

  clear(): void {
    this.#open = [];
  }
}

// A cookie is guessed in one try or not at all (128 bits, and the answer is sealed): timing tells nothing.
function sameOctets(left: Uint8Array, right: Uint8Array): boolean {
  return left.length === right.length && left.every((octet, at) => octet === right[at]);
}
