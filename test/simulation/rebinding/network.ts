import { type SocketAddress, socketAddress } from '../../../src/protocol/address.ts';
import type { LinkId } from '../../../src/rebinding/device-io.ts';
import type { ControlMessage } from '../../../src/tunnel/message.ts';
import type { SimulatedClock } from './clock.ts';
import type { Payload } from './payload.ts';

export interface Conditions {
  /** One way. */
  delayMs: number;
  /** Added at random, so that datagrams overtake each other. */
  jitterMs: number;
  /** Probability, 0–1. */
  loss: number;
  duplication: number;
}

/** What went up, and where it came from. */
export interface Captured {
  readonly payload: Payload;
  readonly address: SocketAddress;
}

interface Link {
  address: SocketAddress;
  up: boolean;
}

export interface Ends {
  readonly relay: {
    arrive(payload: Payload, from: SocketAddress): void;
    signalled(message: ControlMessage): void;
  };
  readonly device: { arrive(payload: Payload, link: LinkId, at: SocketAddress): void };
}

/** A duplicate lags by so much more. */
const DUPLICATE_MS = 30;
/** What goes over signalling takes so long. */
const SIGNALLING_MS = 100;

/** The links of a device behind a NAT, all that lies between them and the relay, and what an attacker captures there. */
export class RebindingNetwork {
  readonly conditions: Conditions = { delayMs: 20, jitterMs: 0, loss: 0, duplication: 0 };
  readonly links = new Map<LinkId, Link>();
  readonly captured: Captured[] = [];
  /** The next that many uplink datagrams reach the relay first from here. */
  racing: { from: SocketAddress; left: number } | null = null;
  readonly #clock: SimulatedClock;
  readonly #random: () => number;
  #ends!: Ends;
  #lastPort = 10_000;

  constructor(clock: SimulatedClock, random: () => number) {
    this.#clock = clock;
    this.#random = random;
    for (const link of ['wifi', 'cell']) this.links.set(link, { address: this.#newAddress(), up: true });
  }

  connect(ends: Ends): void {
    this.#ends = ends;
  }

  address(link: LinkId): SocketAddress {
    return this.links.get(link)!.address;
  }

  /** A link that is up; undefined when there is none. */
  get anyUp(): LinkId | undefined {
    return [...this.links].find(([, { up }]) => up)?.[0];
  }

  /** True when the link was up. */
  cut(link: LinkId): boolean {
    const { up } = this.links.get(link)!;
    this.links.get(link)!.up = false;
    return up;
  }

  /** The link is back, with another address; false when it was up. */
  restore(link: LinkId): boolean {
    if (this.links.get(link)!.up) return false;
    this.links.set(link, { address: this.#newAddress(), up: true });
    return true;
  }

  /** The NAT in front of the link forgets its mapping; nobody is told. */
  remap(link: LinkId): SocketAddress {
    const mapped = this.links.get(link)!;
    mapped.address = this.#newAddress();
    return mapped.address;
  }

  sendUp(link: LinkId, payload: Payload): void {
    const { address, up } = this.links.get(link)!;
    if (!up) return;
    this.captured.push({ payload, address });
    if (this.racing && this.racing.left > 0) {
      this.racing.left -= 1;
      this.#ends.relay.arrive(payload, this.racing.from);
    }
    this.#transmit(() => this.#ends.relay.arrive(payload, address));
  }

  sendDown(to: SocketAddress, payload: Payload): void {
    this.#transmit(() => {
      for (const [link, { address, up }] of this.links) {
        if (up && address.key === to.key) this.#ends.device.arrive(payload, link, to);
      }
    });
  }

  signal(message: ControlMessage): void {
    this.#clock.at(SIGNALLING_MS, () => this.#ends.relay.signalled(message));
  }

  #transmit(arrive: () => void): void {
    const { delayMs, jitterMs, loss, duplication } = this.conditions;
    if (this.#random() >= loss) this.#clock.at(delayMs + this.#random() * jitterMs, arrive);
    if (this.#random() < duplication) {
      this.#clock.at(delayMs + this.#random() * (jitterMs + DUPLICATE_MS), arrive);
    }
  }

  #newAddress(): SocketAddress {
    this.#lastPort += 1;
    return socketAddress('198.51.100.7', this.#lastPort);
  }
}
