import type { EngineCommand } from '../../src/datapath/engine-api.ts';
import type { Block } from '../../src/protocol/lease.ts';
import type { SessionState } from '../../src/protocol/relay-plane.ts';
import { fragment, piece } from '../unit/datapath/fragment.ts';
import { udp } from '../unit/datapath/packets.ts';
import {
  ANCHORS,
  anchorCommand,
  HOST,
  leaseOf,
  PATHS,
  PEERS,
  ROLES,
  rootOf,
  SHARED,
  sessionId,
  TUNNEL_PORT,
  WHOLE,
} from './cast.ts';
import { comparable, counted, Difference, leftByReceiver, type Party, requireSame } from './comparing.ts';
import { hex, StoryDevice } from './device.ts';
import { frameOf, outerPacket } from './host.ts';
import type { Step, Story } from './story.ts';
import type { Subject } from './subject.ts';
import { headerChange, tampered } from './tampering.ts';
import { build, joined, type PacketPlan } from './traffic.ts';

export interface Played {
  readonly packets: number;
}

/** Every step takes this long: limits on rates are then the same for whoever counts them. */
const STEP_MS = 20;
/** From the end of one story to the beginning of the next: whatever remembers anything has forgotten it by then. */
const BETWEEN_MS = 120_000;
/** What ends after every story. */
const FAR_MS = 1e8;
/** Of the session that was handed over to this relay. */
const FORMER = { epoch: 1n, relayBoot: 0xf0f0_0000_0000_0001n, keyNumber: 1 } as const;
const FIRST_EPOCH = 2n;
const PROBES = 6;

export interface PlayOptions {
  /** Why a packet was dropped is told to devices seldom, and not by every subject equally seldom. */
  readonly ignoreNotices?: boolean;
}

/**
 * Plays a story to several subjects at once. The first leads: its devices send. The others must do the same, step by
 * step, in words that do not depend on lanes, sequence numbers and counters. Throws a {@link Difference}.
 */
export function play(
  story: Story,
  subjects: readonly [Subject, ...Subject[]],
  options: PlayOptions = {},
): Played {
  const stage = new Stage(story, subjects, options);
  try {
    return stage.play();
  } finally {
    nextStartMs = stage.clear() + BETWEEN_MS;
  }
}

/** Stories follow one another on one clock: what is kept between them, in XDP's maps, would not like to go back. */
let nextStartMs = 1_000;

class Stage {
  readonly #story: Story;
  readonly #present: readonly number[];
  readonly #ignoreNotices: boolean;
  readonly #parties: readonly Party[];
  readonly #leader: Party;
  readonly #lives = ROLES.map(() => 0);
  readonly #where: number[];
  readonly #epochs = ANCHORS.map(() => FIRST_EPOCH);
  #late: { readonly role: number; readonly frame: Uint8Array }[] = [];
  /** What devices said. */
  readonly #sent: PacketPlan[] = [];
  #nowMs = nextStartMs;
  readonly #farMs = nextStartMs + FAR_MS;
  #packets = 0;
  #step = () => 'the beginning';

  constructor(story: Story, subjects: readonly Subject[], { ignoreNotices = false }: PlayOptions) {
    this.#ignoreNotices = ignoreNotices;
    this.#story = story;
    this.#present = ROLES.map((_, role) => role).filter((role) => story.paths[role] !== 'absent');
    this.#parties = subjects.map((subject) => ({ subject, devices: ROLES.map(() => null) }));
    this.#leader = this.#parties[0]!;
    this.#where = story.paths.map((place) => (typeof place === 'number' ? place : 0));
  }

  play(): Played {
    this.#command({ op: 'host-addresses', addresses: [...HOST] });
    ANCHORS.forEach((_, anchor) => {
      this.#command(anchorCommand(anchor, FIRST_EPOCH, this.#farMs));
    });
    ROLES.forEach((_, role) => {
      const place = this.#story.paths[role]!;
      if (place !== 'absent') this.#begin(role, place === 'nowhere' ? null : place);
    });
    this.#compare();
    this.#story.steps.forEach((planned, number) => {
      const step = this.#ofPresent(planned);
      this.#step = () => `step ${number}: ${described(step)}`;
      this.#take(step);
      this.#compare();
      this.#pass(STEP_MS);
    });
    this.#end();
    return { packets: this.#packets };
  }

  /** Nothing stays installed; the time it is. */
  clear(): number {
    for (const { subject } of this.#parties) {
      for (const { id } of ANCHORS) subject.command({ op: 'drop-anchor', anchor: id }, this.#nowMs);
    }
    return this.#nowMs;
  }

  /** A role that is not there would do nothing: another one does it. */
  #ofPresent(step: Step): Step {
    if (!('role' in step) || step.role === null) return step;
    return { ...step, role: this.#present[step.role % this.#present.length] ?? step.role };
  }

  #take(step: Step): void {
    switch (step.do) {
      case 'down':
        this.#frame(joined(frameOf(build(step.packet, 'down')), new Uint8Array(step.padding)));
        break;
      case 'up':
        this.#up(step);
        break;
      case 'reply': {
        const about = this.#sent.at(-1 - step.ago);
        if (about !== undefined) this.#frame(frameOf(build(replyTo(about, step.as), 'down')));
        break;
      }
      case 'raw':
        this.#datagram(step.octets, step.from, ANCHORS[step.octets.length % 2]!.endpoints);
        break;
      case 'noise':
        this.#frame(step.octets);
        break;
      case 'pieces':
        this.#pieces(step);
        break;
      case 'bind':
        this.#where[step.role] = step.path;
        this.#say(step.role, (device) => {
          device.generation += 1;
          return device.control({ kind: 'bind', oldPath: step.oldPath });
        });
        break;
      case 'hold':
      case 'keepalive':
        this.#say(step.role, (device) => device.control({ kind: step.do }));
        break;
      case 'answer':
        this.#answer(step.role);
        break;
      case 'pass':
        this.#pass(step.ms);
        break;
      case 'lease':
        this.#lease(step);
        break;
      case 'session':
        if (step.change === 'drop') this.#dropSession(step.role);
        else {
          this.#lives[step.role]! += 1;
          this.#begin(step.role, this.#where[step.role]!);
        }
        break;
      case 'anchor':
        this.#anchor(step.anchor, step.change);
        break;
      case 'host-addresses':
        this.#command({ op: 'host-addresses', addresses: step.known ? [...HOST, PEERS[1]] : [...HOST] });
        break;
      default:
        step satisfies never;
    }
  }

  // Installation ------------------------------------------------------------------------------------------------

  /** Installs a session and its leases; one that is somewhere goes on as if another relay had handed it over. */
  #begin(role: number, path: number | null): void {
    const life = this.#lives[role]!;
    this.#install(role);
    const boot = BigInt(0xd000 + role * 16 + life);
    for (const party of this.#parties) {
      party.devices[role] = new StoryDevice(rootOf(role, life), ROLES[role]!.index, boot);
    }
    if (path === null) return;
    const { address, port } = PATHS[path]!;
    const state: SessionState = {
      id: sessionId(role, life),
      deviceBoot: boot.toString(16).padStart(16, '0'),
      generation: 1,
      active: { address, port },
      rttMs: 20,
      control: { highest: '0', bitmap: '' },
      data: {
        epoch: FORMER.epoch.toString(),
        relayBoot: FORMER.relayBoot.toString(16).padStart(16, '0'),
        keyNumber: FORMER.keyNumber,
        nextSequence: 1,
        windows: [],
      },
    };
    this.#command({ op: 'import', anchor: ROLES[role]!.anchor, sessions: [state] });
    for (const { devices } of this.#parties) devices[role]!.resume(state);
    this.#where[role] = path;
  }

  #install(role: number): void {
    const { anchor, index, leases } = ROLES[role]!;
    const life = this.#lives[role]!;
    const session = { id: sessionId(role, life), index, root: rootOf(role, life), hint: null };
    this.#command({ op: 'session', anchor, session });
    leases.forEach((_, number) => {
      this.#command({ op: 'lease', anchor, lease: leaseOf(role, number, life), untilMs: this.#farMs });
    });
  }

  #dropSession(role: number): void {
    this.#command({
      op: 'drop-session',
      anchor: ROLES[role]!.anchor,
      id: sessionId(role, this.#lives[role]!),
    });
  }

  #lease({ role, number, change }: Extract<Step, { do: 'lease' }>): void {
    const { anchor, leases } = ROLES[role]!;
    if (number >= leases.length) return;
    const lease = leaseOf(role, number, this.#lives[role]!);
    if (change === 'drop') {
      this.#command({ op: 'drop-lease', anchor, id: lease.id });
    } else if (change === 'give') {
      const heir = (role + 1) % ROLES.length;
      const session = sessionId(heir, this.#lives[heir]!);
      this.#command({ op: 'lease', anchor, lease: { ...lease, session }, untilMs: this.#farMs });
    } else if (change === 'double') {
      const ports = lease.ports === null ? null : doubled(lease.ports);
      this.#command({ op: 'lease', anchor, lease: { ...lease, ports }, untilMs: this.#farMs });
    } else {
      const untilMs = change === 'renew' ? this.#farMs : this.#nowMs + 45;
      this.#command({ op: 'lease', anchor, lease, untilMs });
    }
  }

  #anchor(number: number, change: Extract<Step, { do: 'anchor' }>['change']): void {
    const anchor = ANCHORS[number]!.id;
    switch (change) {
      case 'shorten':
        this.#command({ op: 'deadline', anchor, untilMs: this.#nowMs + 45 });
        break;
      case 'lengthen':
        this.#command({ op: 'deadline', anchor, untilMs: this.#farMs });
        break;
      case 'drop':
        this.#command({ op: 'drop-anchor', anchor });
        break;
      case 'hand-over':
        this.#handOver(number);
        break;
      default:
        change satisfies never;
    }
  }

  /** To a relay that is this one again, under the next epoch. */
  #handOver(number: number): void {
    const anchor = ANCHORS[number]!.id;
    this.#epochs[number]! += 1n;
    const states = this.#command({ op: 'export', anchor });
    this.#command({ op: 'drop-anchor', anchor });
    const { op, anchor: fields } = anchorCommand(number, this.#epochs[number]!, this.#farMs);
    this.#command({ op, anchor: { ...fields, resumes: true } });
    ROLES.forEach((role, i) => {
      if (role.anchor === anchor) this.#install(i);
    });
    this.#parties.forEach(({ subject }, i) => {
      const own = states[i]!;
      subject.command(
        { op: 'import', anchor, sessions: typeof own === 'string' || own === null ? [] : own },
        this.#nowMs,
      );
    });
  }

  // What arrives ------------------------------------------------------------------------------------------------

  #up({ role, packet: plan, own, from, tamper, outerClass }: Extract<Step, { do: 'up' }>): void {
    const packet = own ? { ...plan, ...ROLES[role]!.speaks } : plan;
    this.#sent.push(packet);
    const device = this.#leader.devices[role];
    const sealed = device?.data(build(packet, 'up'), headerChange(tamper, device)) ?? null;
    if (sealed === null) return;
    const octets = tampered(sealed, tamper);
    const frame = this.#frameFrom(
      octets,
      from ?? this.#where[role]!,
      ANCHORS.find(({ id }) => id === ROLES[role]!.anchor)!.endpoints,
      outerClass,
    );
    if (frame === null) return;
    if (tamper?.kind === 'later') {
      this.#late.push({ role, frame });
      return;
    }
    this.#frame(frame);
    if (tamper?.kind === 'twice') this.#frame(frame);
    const late = this.#late.filter((one) => one.role === role);
    this.#late = this.#late.filter((one) => one.role !== role);
    for (const one of late) {
      this.#pass(STEP_MS);
      this.#frame(one.frame);
    }
  }

  #pieces({ role, packet, order, id }: Extract<Step, { do: 'pieces' }>): void {
    const [near, far] = [(packet.near === 0 ? SHARED : WHOLE)[packet.family]!, PEERS[packet.family]!];
    const [source, destination] = role === null ? [far, near] : [near, far];
    const payload =
      role === null
        ? udp(53, 1024 + id * 64, new Uint8Array(64))
        : udp(1024 + id * 64, 53, new Uint8Array(64));
    const name = 0x4200 + id;
    const overlap = (start: number) =>
      piece(source, destination, 17, payload.subarray(start, start + 16), { start, more: true, id: name });
    const pieces = [...fragment(source, destination, 17, payload, [24, 48], name), overlap(16), overlap(40)];
    for (const number of order) {
      const octets = pieces[number]!;
      if (role === null) this.#frame(frameOf(octets));
      else {
        const sealed = this.#leader.devices[role]?.data(octets) ?? null;
        const { endpoints } = ANCHORS.find(({ id: name }) => name === ROLES[role]!.anchor)!;
        if (sealed !== null) this.#datagram(sealed, this.#where[role]!, endpoints);
      }
    }
  }

  /** A CONTROL datagram of the device, sealed by each party's own. */
  #say(role: number, seal: (device: StoryDevice) => Uint8Array): void {
    const { endpoints } = ANCHORS.find(({ id }) => id === ROLES[role]!.anchor)!;
    for (const { subject, devices } of this.#parties) {
      const device = devices[role];
      if (device == null) continue;
      const frame = this.#frameFrom(seal(device), this.#where[role]!, endpoints, 0);
      if (frame !== null) subject.frame(frame, this.#nowMs);
    }
  }

  /** The device reads what came, and proves itself where it was challenged. */
  #answer(role: number): void {
    const asked = this.#parties.map(({ devices }) => devices[role]?.challenges.splice(0) ?? []);
    asked[0]!.forEach(({ path, endpoint }, i) => {
      this.#parties.forEach(({ subject, devices }, party) => {
        const own = asked[party]![i];
        if (own === undefined) throw this.#different('a challenge', this.#leader.subject, subject);
        const from = PATHS.findIndex(({ key }) => key === path);
        const frame = this.#frameFrom(devices[role]!.proof(own.message), from, [endpoint, endpoint], 0);
        if (frame !== null) subject.frame(frame, this.#nowMs);
      });
      this.#compare();
    });
  }

  #frameFrom(
    octets: Uint8Array,
    from: number,
    endpoints: readonly string[],
    outerClass: number,
  ): Uint8Array | null {
    const { address, port } = PATHS[from]!;
    const endpoint = endpoints.find((one) => one.includes(':') === address.includes(':'));
    if (endpoint === undefined) return null;
    return frameOf(outerPacket(address, port, endpoint, TUNNEL_PORT, octets, outerClass));
  }

  #datagram(octets: Uint8Array, from: number, endpoints: readonly string[]): void {
    const frame = this.#frameFrom(octets, from, endpoints, 0);
    if (frame !== null) this.#frame(frame);
  }

  #frame(frame: Uint8Array): void {
    this.#packets += 1;
    for (const { subject } of this.#parties) subject.frame(frame, this.#nowMs);
  }

  // Comparison --------------------------------------------------------------------------------------------------

  #command(command: EngineCommand) {
    const answers = this.#parties.map(({ subject }) => subject.command(command, this.#nowMs));
    this.#same(
      'the answer',
      answers.map((answer) =>
        answer === null || typeof answer === 'string' ? answer : answer.map(comparable),
      ),
    );
    return answers;
  }

  #pass(ms: number): void {
    const endMs = this.#nowMs + ms;
    for (;;) {
      const dueMs = Math.min(...this.#parties.map(({ subject }) => subject.nextDueMs()));
      if (dueMs > endMs) break;
      this.#nowMs = Math.max(this.#nowMs, dueMs);
      for (const { subject } of this.#parties)
        if (subject.nextDueMs() <= this.#nowMs) subject.tick(this.#nowMs);
    }
    this.#nowMs = endMs;
    this.#compare();
  }

  /** In order for each device and for the public side: what goes to one of them does not wait for the others. */
  #compare(): void {
    const outputs = this.#parties.map(({ subject }) => subject.take());
    if (outputs.every((left) => left.length === 0)) return;
    this.#same(
      'what left',
      this.#parties.map((party, i) =>
        leftByReceiver(party, outputs[i]!, this.#nowMs, { ignoreNotices: this.#ignoreNotices }),
      ),
    );
  }

  /** Learned state shows in what becomes of replies and errors; windows and paths in what a hand-over carries. */
  #end(): void {
    this.#step = () => 'the probes behind the story';
    for (const packet of this.#sent.slice(-PROBES)) {
      for (const as of ['answer', 'error'] as const) {
        this.#frame(frameOf(build(replyTo(packet, as), 'down')));
      }
      this.#compare();
    }
    this.#step = () => 'the end';
    for (const { id } of ANCHORS) this.#command({ op: 'export', anchor: id });
    this.#compare();
    this.#same(
      'the counters',
      this.#parties.map(({ subject }) => counted(subject.counters(), this.#story)),
    );
  }

  #same(what: string, found: readonly unknown[]): void {
    requireSame(
      `${what} differs at ${this.#step()}`,
      this.#parties.map(({ subject }, party) => ({ name: subject.name, found: found[party] })),
    );
  }

  #different(what: string, one: Subject, other: Subject): Difference {
    return new Difference(`${what} came from ${one.name} and not from ${other.name} at ${this.#step()}`);
  }
}

/** With its buddy: the block as far beside it as it is long. */
function doubled({ first, count }: Block): Block {
  return { first: first - (first % (2 * count)), count: 2 * count };
}

function replyTo(packet: PacketPlan, as: 'answer' | 'error'): PacketPlan {
  const plain = { ...packet, flaw: null, ttl: 64 };
  if (as === 'error') return { ...plain, shape: as, size: 31 };
  return packet.shape === 'echo' ? { ...plain, shape: 'echo-reply' } : plain;
}

function described(step: Step): string {
  return JSON.stringify(step, (_, value: unknown) => (value instanceof Uint8Array ? hex(value) : value));
}
