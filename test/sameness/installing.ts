import type { Block } from '../../src/protocol/lease.ts';
import type { SessionState } from '../../src/protocol/relay-plane.ts';
import { ANCHORS, anchorCommand, HOST, leaseOf, PATHS, PEERS, ROLES, rootOf, sessionId } from './cast.ts';
import { StoryDevice } from './device.ts';
import type { Ensemble } from './ensemble.ts';
import type { Step } from './story.ts';

/** What ends after every story. */
const FAR_MS = 1e8;
/** What a story shortens ends so soon. */
const SOON_MS = 45;
/** Of the session that was handed over to this relay. */
const FORMER = { epoch: 1n, relayBoot: 0xf0f0_0000_0000_0001n, keyNumber: 1 } as const;
const FIRST_EPOCH = 2n;

/** What the owner of the anchors says to the subjects of a story: anchors, sessions and leases, as they come and go. */
export class Installing {
  readonly #ensemble: Ensemble;
  /** Of each role: how often its session has ended and come back. */
  readonly #lives = ROLES.map(() => 0);
  readonly #epochs = ANCHORS.map(() => FIRST_EPOCH);
  readonly #farMs: number;

  constructor(ensemble: Ensemble) {
    this.#ensemble = ensemble;
    this.#farMs = ensemble.nowMs + FAR_MS;
  }

  anchors(): void {
    ANCHORS.forEach((_, anchor) => {
      this.#ensemble.command(anchorCommand(anchor, FIRST_EPOCH, this.#farMs));
    });
  }

  /** Tells which addresses are the relay's own; `more`: one of the peers' too. */
  hostAddresses(more: boolean): void {
    this.#ensemble.command({ op: 'host-addresses', addresses: more ? [...HOST, PEERS[1]] : [...HOST] });
  }

  /** Installs a session and its leases; one that is on a path goes on there as if another relay had handed it over. */
  begin(role: number, path: number | null): void {
    const life = this.#lives[role]!;
    this.#install(role);
    const boot = BigInt(0xd000 + role * 16 + life);
    for (const { devices } of this.#ensemble.parties) {
      devices[role] = new StoryDevice(rootOf(role, life), ROLES[role]!.index, boot);
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
    this.#ensemble.command({ op: 'import', anchor: ROLES[role]!.anchor, sessions: [state] });
    for (const { devices } of this.#ensemble.parties) devices[role]!.resume(state);
  }

  /** The session comes back under another id and another key. */
  beginAgain(role: number, path: number): void {
    this.#lives[role]! += 1;
    this.begin(role, path);
  }

  dropSession(role: number): void {
    const id = sessionId(role, this.#lives[role]!);
    this.#ensemble.command({ op: 'drop-session', anchor: ROLES[role]!.anchor, id });
  }

  lease({ role, number, change }: Extract<Step, { do: 'lease' }>): void {
    const { anchor, leases } = ROLES[role]!;
    if (number >= leases.length) return;
    const lease = leaseOf(role, number, this.#lives[role]!);
    const put = (changed: Partial<typeof lease>, untilMs = this.#farMs) =>
      void this.#ensemble.command({ op: 'lease', anchor, lease: { ...lease, ...changed }, untilMs });
    switch (change) {
      case 'drop':
        this.#ensemble.command({ op: 'drop-lease', anchor, id: lease.id });
        break;
      case 'give': {
        const heir = (role + 1) % ROLES.length;
        put({ session: sessionId(heir, this.#lives[heir]!) });
        break;
      }
      case 'double':
        put({ ports: lease.ports === null ? null : doubled(lease.ports) });
        break;
      case 'renew':
        put({});
        break;
      case 'shorten':
        put({}, this.#ensemble.nowMs + SOON_MS);
        break;
      default:
        change satisfies never;
    }
  }

  anchor(number: number, change: Extract<Step, { do: 'anchor' }>['change']): void {
    const anchor = ANCHORS[number]!.id;
    switch (change) {
      case 'shorten':
        this.#ensemble.command({ op: 'deadline', anchor, untilMs: this.#ensemble.nowMs + SOON_MS });
        break;
      case 'lengthen':
        this.#ensemble.command({ op: 'deadline', anchor, untilMs: this.#farMs });
        break;
      case 'drop':
        this.#ensemble.command({ op: 'drop-anchor', anchor });
        break;
      case 'hand-over':
        this.#handOver(number);
        break;
      default:
        change satisfies never;
    }
  }

  exportAll(): void {
    for (const { id } of ANCHORS) this.#ensemble.command({ op: 'export', anchor: id });
  }

  #install(role: number): void {
    const { anchor, index, leases } = ROLES[role]!;
    const life = this.#lives[role]!;
    const session = { id: sessionId(role, life), index, root: rootOf(role, life), hint: null };
    this.#ensemble.command({ op: 'session', anchor, session });
    leases.forEach((_, number) => {
      const lease = leaseOf(role, number, life);
      this.#ensemble.command({ op: 'lease', anchor, lease, untilMs: this.#farMs });
    });
  }

  /** To a relay that is this one again, under the next epoch. */
  #handOver(number: number): void {
    const anchor = ANCHORS[number]!.id;
    this.#epochs[number]! += 1n;
    const states = this.#ensemble.command({ op: 'export', anchor });
    this.#ensemble.command({ op: 'drop-anchor', anchor });
    const { op, anchor: fields } = anchorCommand(number, this.#epochs[number]!, this.#farMs);
    this.#ensemble.command({ op, anchor: { ...fields, resumes: true } });
    ROLES.forEach((role, i) => {
      if (role.anchor === anchor) this.#install(i);
    });
    this.#ensemble.parties.forEach(({ subject }, i) => {
      const own = states[i]!;
      const sessions = typeof own === 'string' || own === null ? [] : own;
      subject.command({ op: 'import', anchor, sessions }, this.#ensemble.nowMs);
    });
  }
}

/** With its buddy: the block as far beside it as it is long. */
function doubled({ first, count }: Block): Block {
  return { first: first - (first % (2 * count)), count: 2 * count };
}
