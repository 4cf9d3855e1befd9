import fc from 'fast-check';
import { expect, it } from 'vitest';
import { anchor, ENDPOINT, EngineRig, install, rootOf, sessionId } from '../unit/datapath/engine-rig.ts';
import { FastModel, UsedNumbers } from '../unit/datapath/fast-model.ts';
import type { HandDevice } from '../unit/datapath/hand-device.ts';
import { down, HELD, markOf, PATHS, up } from './marked-packets.ts';

type Step =
  | { readonly do: 'down' | 'up' | 'serve' | 'deliver' | 'hold' }
  | { readonly do: 'hand-over'; readonly fast: boolean }
  | { readonly do: 'pass'; readonly ms: number }
  | { readonly do: 'move'; readonly to: number; readonly oldPath: 'alive' | 'dead' };

const just = (step: 'down' | 'up' | 'serve' | 'deliver' | 'hold') => fc.constant<Step>({ do: step });
const steps = fc.array(
  fc.oneof(
    { weight: 8, arbitrary: just('down') },
    { weight: 5, arbitrary: just('up') },
    { weight: 4, arbitrary: just('serve') },
    { weight: 3, arbitrary: just('deliver') },
    { weight: 1, arbitrary: just('hold') },
    { weight: 2, arbitrary: fc.boolean().map((fast): Step => ({ do: 'hand-over', fast })) },
    { weight: 2, arbitrary: fc.integer({ min: 0, max: 90 }).map((ms): Step => ({ do: 'pass', ms })) },
    {
      weight: 2,
      arbitrary: fc
        .tuple(fc.integer({ min: 0, max: 2 }), fc.constantFrom('alive' as const, 'dead' as const))
        .map(([to, oldPath]): Step => ({ do: 'move', to, oldPath })),
    },
  ),
  { minLength: 20, maxLength: 80 },
);

/**
 * One device, and relays with and without a fast engine that hand its anchor on to each other. What the fast engine does
 * not take waits in a queue, as it does in a TUN device.
 */
class Journey {
  relay!: EngineRig;
  fast: FastModel | null = null;
  device: HandDevice;
  path = PATHS[0] as (typeof PATHS)[number];
  readonly queue: Uint8Array[] = [];
  readonly sentUp: number[] = [];
  readonly sentDown: number[] = [];
  readonly gotUp: number[] = [];
  readonly gotDown: number[] = [];
  forwardedFast = 0;
  readonly #numbers = new UsedNumbers();
  #epoch = 0n;

  constructor() {
    this.#start(true);
    this.device = install(this.relay, 1, [HELD]);
    this.relay.connect(this.device, this.path);
    this.#serve();
  }

  #start(withFast: boolean): void {
    this.#epoch += 1n;
    const nowMs = this.relay?.nowMs ?? 1000;
    this.fast = withFast ? new FastModel((sent) => void this.relay.sent.push(sent), this.#numbers) : null;
    this.relay = new EngineRig(this.#epoch, Number(this.#epoch), undefined, this.fast);
    this.relay.nowMs = nowMs;
    anchor(this.relay, { epoch: this.#epoch });
  }

  take(step: Step): void {
    const { device } = this;
    switch (step.do) {
      case 'down': {
        this.sentDown.push(this.sentDown.length);
        const packet = down(this.sentDown.at(-1)!);
        if (this.fast?.downlink(packet, this.relay.nowMs) === true) this.forwardedFast += 1;
        else this.queue.push(packet);
        break;
      }
      case 'up':
        this.sentUp.push(this.sentUp.length);
        this.#up(device.data(up(this.sentUp.at(-1)!)));
        break;
      case 'serve':
        this.#serve();
        break;
      case 'deliver':
        this.#deliver();
        break;
      case 'hold':
        this.relay.datagram(this.path, device.control({ kind: 'hold' }));
        break;
      case 'hand-over':
        this.#handOver(step.fast);
        break;
      case 'pass':
        // The packet thread takes what waits before it waits itself.
        this.#serve();
        this.relay.pass(step.ms);
        break;
      case 'move':
        this.path = PATHS[step.to]!;
        this.relay.datagram(this.path, device.bind(step.oldPath));
        break;
      default:
    }
    this.gotUp.push(...this.relay.takeToNetwork().map(markOf));
  }

  #up(datagram: Uint8Array): void {
    const inner = this.fast?.uplink(ENDPOINT, this.path, datagram, this.relay.nowMs) ?? null;
    if (inner === null) this.relay.datagram(this.path, datagram);
    else if (inner.length > 0) this.gotUp.push(markOf(inner));
  }

  #serve(): void {
    for (const packet of this.queue.splice(0)) this.relay.packet(packet);
    if (this.relay.engine.settling) this.relay.engine.settle(this.relay.nowMs);
  }

  #deliver(): void {
    for (let round = 0; round < 6; round += 1) {
      for (const { octets, to } of this.relay.takeSent()) {
        const message = this.device.take(octets, this.relay.nowMs);
        if (message?.kind === 'challenge') this.relay.datagram(to, this.device.proof(message));
      }
    }
    this.gotDown.push(...this.device.received.splice(0).map(markOf));
  }

  #handOver(fast: boolean): void {
    // A second hand-over within the round trip in which the device hears of the first may lose that round trip's uplink.
    this.#serve();
    this.relay.pass(0);
    this.#deliver();
    const { sessions } = this.relay.command({ op: 'export', anchor: 'a1' });
    if (this.fast !== null) expect(this.fast.settled).toBe(1);
    const inFlight = this.relay.takeSent();
    this.#start(fast);
    const next = this.relay;
    const session = { id: sessionId(1), index: 1, root: rootOf(1), hint: null };
    next.command({ op: 'session', anchor: 'a1', session });
    next.command({ op: 'lease', anchor: 'a1', lease: { ...HELD, session: sessionId(1) }, untilMs: 1e9 });
    next.command({ op: 'import', anchor: 'a1', sessions: JSON.parse(JSON.stringify(sessions)) });
    for (const { octets } of inFlight) this.device.take(octets, next.nowMs);
    this.gotDown.push(...this.device.received.splice(0).map(markOf));
  }

  finish(): void {
    for (let i = 0; i < 4; i += 1) {
      this.take({ do: 'serve' });
      this.take({ do: 'deliver' });
      this.take({ do: 'pass', ms: 700 });
    }
    this.take({ do: 'deliver' });
  }
}

it('with a fast engine in front, every packet still arrives once and in order, and no number is used twice', () => {
  let forwardedFast = 0;
  fc.assert(
    fc.property(steps, (plan) => {
      const journey = new Journey();
      for (const step of plan) journey.take(step);
      journey.finish();
      expect(journey.gotUp).toEqual(journey.sentUp);
      expect(journey.gotDown).toEqual(journey.sentDown);
      expect(journey.device.refused).toEqual([]);
      forwardedFast += journey.forwardedFast;
    }),
    { numRuns: 60 },
  );
  // 200 to 290 by the plans drawn.
  expect(forwardedFast).toBeGreaterThan(100);
});
