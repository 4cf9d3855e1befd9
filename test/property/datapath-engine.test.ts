import fc from 'fast-check';
import { expect, it } from 'vitest';
import { anchor, EngineRig, install, rootOf, sessionId } from '../unit/datapath/engine-rig.ts';
import type { HandDevice } from '../unit/datapath/hand-device.ts';
import { echo, esp, icmp, ip, quote } from '../unit/datapath/packets.ts';
import { down, HELD, markOf, PATHS, PEER, SHARED, up } from './marked-packets.ts';

type Step =
  | { readonly do: 'down' | 'up' | 'deliver' | 'hand-over' | 'rekey' }
  | { readonly do: 'pass'; readonly ms: number }
  | { readonly do: 'move'; readonly to: number; readonly oldPath: 'alive' | 'dead' };

const steps = fc.array(
  fc.oneof(
    { weight: 5, arbitrary: fc.constant<Step>({ do: 'down' }) },
    { weight: 5, arbitrary: fc.constant<Step>({ do: 'up' }) },
    { weight: 3, arbitrary: fc.constant<Step>({ do: 'deliver' }) },
    { weight: 2, arbitrary: fc.constant<Step>({ do: 'hand-over' }) },
    { weight: 2, arbitrary: fc.integer({ min: 0, max: 150 }).map((ms): Step => ({ do: 'pass', ms })) },
    {
      weight: 2,
      arbitrary: fc
        .tuple(fc.integer({ min: 0, max: 2 }), fc.constantFrom('alive' as const, 'dead' as const))
        .map(([to, oldPath]): Step => ({ do: 'move', to, oldPath })),
    },
  ),
  { maxLength: 40 },
);

/** One device, relays that hand its anchor on to each other, and a network that loses nothing. */
class Journey {
  relay = new EngineRig(1n, 1);
  device: HandDevice;
  path = PATHS[0] as (typeof PATHS)[number];
  readonly sentUp: number[] = [];
  readonly sentDown: number[] = [];
  readonly gotUp: number[] = [];
  readonly gotDown: number[] = [];
  #epoch = 1n;

  constructor() {
    anchor(this.relay);
    this.device = install(this.relay, 1, [HELD]);
    this.relay.connect(this.device, this.path);
  }

  take(step: Step): void {
    const { relay, device } = this;
    switch (step.do) {
      case 'down':
        this.sentDown.push(this.sentDown.length);
        relay.packet(down(this.sentDown.at(-1)!));
        break;
      case 'up':
        this.sentUp.push(this.sentUp.length);
        relay.datagram(this.path, device.data(up(this.sentUp.at(-1)!)));
        break;
      case 'deliver':
        this.#deliver();
        break;
      case 'hand-over':
        this.#handOver();
        break;
      case 'pass':
        relay.pass(step.ms);
        break;
      case 'move':
        this.path = PATHS[step.to]!;
        relay.datagram(this.path, device.bind(step.oldPath));
        break;
      default:
    }
    this.gotUp.push(...this.relay.takeToNetwork().map(markOf));
  }

  /** Every path still works: what was sent to any of them arrives, and proofs come from where the challenge went. */
  #deliver(): void {
    for (let round = 0; round < 6; round += 1) {
      for (const { octets, to } of this.relay.takeSent()) {
        const message = this.device.take(octets, this.relay.nowMs);
        if (message?.kind === 'challenge') this.relay.datagram(to, this.device.proof(message));
      }
    }
    this.gotDown.push(...this.device.received.splice(0).map(markOf));
  }

  #handOver(): void {
    // A second hand-over within the round trip in which the device hears of the first may lose that round trip's uplink.
    this.relay.pass(0);
    this.#deliver();
    const { sessions } = this.relay.command({ op: 'export', anchor: 'a1' });
    const inFlight = this.relay.takeSent();
    this.#epoch += 1n;
    const next = new EngineRig(this.#epoch, Number(this.#epoch));
    next.nowMs = this.relay.nowMs;
    anchor(next, { epoch: this.#epoch });
    const session = { id: sessionId(1), index: 1, root: rootOf(1), hint: null };
    next.command({ op: 'session', anchor: 'a1', session });
    next.command({ op: 'lease', anchor: 'a1', lease: { ...HELD, session: sessionId(1) }, untilMs: 1e9 });
    next.command({ op: 'import', anchor: 'a1', sessions: JSON.parse(JSON.stringify(sessions)) });
    this.relay = next;
    for (const { octets } of inFlight) this.device.take(octets, next.nowMs);
  }

  finish(): void {
    for (let i = 0; i < 4; i += 1) {
      this.take({ do: 'deliver' });
      this.take({ do: 'pass', ms: 700 });
    }
    this.take({ do: 'deliver' });
  }
}

it('whatever moves and hand-overs interleave, every packet arrives once, in order, and no nonce is refused as used', () => {
  fc.assert(
    fc.property(steps, (plan) => {
      const journey = new Journey();
      for (const step of plan) journey.take(step);
      journey.finish();
      expect(journey.gotUp).toEqual(journey.sentUp);
      expect(journey.gotDown).toEqual(journey.sentDown);
      expect(journey.device.refused).toEqual([]);
    }),
    { numRuns: 150 },
  );
});

it('any octets from anywhere are survived, and nothing leaves that no device sent', () => {
  const rig = new EngineRig(1n);
  anchor(rig);
  const device = install(rig, 1, [HELD]);
  const rogue = install(rig, 2, []);
  rig.connect(device, PATHS[0]);
  rig.connect(rogue, PATHS[1]);
  rig.takeSent();
  const genuine = fc.constantFrom<() => Uint8Array>(
    () => device.data(up(1)),
    () => device.data(ip(SHARED, PEER, 50, esp(9))),
    () => device.data(ip(SHARED, PEER, 1, echo(8, 3))),
    () => device.data(ip(SHARED, PEER, 1, icmp(3, 3, 0, quote(down(1))))),
    () => rogue.data(up(1)),
    () => device.bind('dead'),
    () => device.control({ kind: 'keepalive' }),
    () => device.control({ kind: 'hold' }),
    () => rogue.bind('alive'),
  );
  const changes = fc.array(fc.tuple(fc.nat(130), fc.integer({ min: 1, max: 255 })), {
    minLength: 1,
    maxLength: 4,
  });
  const datagrams = fc.oneof(
    fc.uint8Array({ maxLength: 200 }).map((octets) => () => octets),
    fc.tuple(genuine, changes, fc.nat(20)).map(([make, edits, cut]) => () => {
      const octets = make();
      for (const [where, value] of edits) if (where < octets.length - cut) octets[where]! ^= value;
      return octets.subarray(0, Math.max(0, octets.length - cut));
    }),
  );
  // Under ESP the octets behind the first 16 are the association's to protect: only those may differ.
  const protectedPart = (packet: Uint8Array) => (packet[9] === 50 ? packet.subarray(0, 36) : packet);
  const sendable = [
    up(1),
    ip(SHARED, PEER, 1, echo(8, 3)),
    ip(SHARED, PEER, 1, icmp(3, 3, 0, quote(down(1)))),
  ];
  fc.assert(
    fc.property(datagrams, fc.nat(2), fc.nat(30), (make, from, ms) => {
      rig.datagram(PATHS[from]!, make());
      rig.packet(make());
      rig.pass(ms);
      for (const packet of rig.takeToNetwork()) expect(sendable).toContainEqual(protectedPart(packet));
      rig.takeSent();
    }),
    { numRuns: 1500 },
  );
});
