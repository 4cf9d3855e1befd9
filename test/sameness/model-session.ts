import { admit, nanoseconds, TOO_SOON } from '../../src/datapath/decision/policing.ts';
import type { EngineSession } from '../../src/datapath/engine-api.ts';
import type { SessionPolicing } from '../../src/datapath/userspace/session.ts';
import type { SocketAddress } from '../../src/protocol/address.ts';
import type { RsipErrorNumber } from '../../src/protocol/errors.ts';
import type { SessionState } from '../../src/protocol/relay-plane.ts';
import { createRelayRebinding } from '../../src/rebinding/relay.ts';
import type { RelayInput, RelayOutput, RelayRebinding } from '../../src/rebinding/relay-io.ts';
import { createTokenBucket } from '../../src/rebinding/token-bucket.ts';
import { ControlChannel } from '../../src/tunnel/control.ts';
import { DATA_REFUSED, dataRefusalName, openData, sealData, sequenceOf } from '../../src/tunnel/data.ts';
import {
  ingressInner,
  ingressOuter,
  setTrafficClass,
  type TunnelMarking,
  trafficClass,
} from '../../src/tunnel/dscp-ecn.ts';
import { type DataKeyName, deriveDataKey } from '../../src/tunnel/keys.ts';
import type { ControlDraft } from '../../src/tunnel/message.ts';
import { type SipKey, sipKey } from '../../src/tunnel/siphash.ts';
import { DATA, REKEY_AFTER_PACKETS, WINDOW_SIZE } from '../../src/tunnel/wire.ts';

export interface ModelAnchor {
  readonly id: string;
  readonly endpoints: readonly string[];
  readonly epoch: bigint;
  grantedMs: number;
  frozen: boolean;
  readonly untilMs: number;
  readonly sessions: ModelSession[];
}

export interface ModelHost {
  readonly relayBoot: bigint;
  readonly random: (octets: number) => Uint8Array;
  readonly rekeyAfterPackets: number;
  readonly used: { counter: bigint; keyNumber: number };
  readonly marking: TunnelMarking;
  readonly policing: SessionPolicing;
  toDevice(endpoint: string, path: SocketAddress, octets: Uint8Array, outerClass: number): void;
  count(direction: 'uplink' | 'downlink', name: string, packets?: number): void;
}

/** Keys before the newest are received for this long. */
const OLD_KEYS_MS = 10_000;
const HOLD = { packets: 1024, octets: 256 * 1024 };
/** An anchor past its deadline is asked again after this long. */
const SUSPENDED_MS = 250;

/** The numbers that were received: all of them, so that nothing is forgotten but what is too old. */
class Received {
  highest = 0;
  readonly #numbers = new Set<number>();

  admits(number: number): boolean {
    return number >= 1 && number > this.highest - WINDOW_SIZE && !this.#numbers.has(number);
  }

  add(number: number): void {
    this.#numbers.add(number);
    this.highest = Math.max(this.highest, number);
  }

  state(): { highest: number; bitmap: string } {
    const octets = new Uint8Array(WINDOW_SIZE / 8);
    for (const number of this.#numbers) {
      const back = this.highest - number;
      if (back < WINDOW_SIZE) octets[back >> 3]! |= 1 << (back & 7);
    }
    return {
      highest: this.highest,
      bitmap: Buffer.from(octets)
        .toString('hex')
        .replace(/(00)+$/, ''),
    };
  }

  static from({ highest, bitmap }: { highest: number; bitmap: string }): Received {
    const received = new Received();
    for (let bit = 0; bit < bitmap.length * 4; bit += 1) {
      const octet = Number.parseInt(bitmap.slice((bit >> 3) * 2, (bit >> 3) * 2 + 2), 16);
      if ((octet >> (bit & 7)) & 1 && highest - bit >= 1) received.add(highest - bit);
    }
    received.highest = highest;
    return received;
  }
}

interface Receiving {
  readonly keyNumber: number;
  readonly key: SipKey;
  untilMs: number;
  readonly lanes: [Received | null, Received | null];
}

interface Sending {
  readonly name: DataKeyName;
  readonly key: SipKey;
  sequence: number;
}

/** A session as it shows: what is received and sent, under which keys, over which path, and what waits. */
export class ModelSession {
  readonly id: string;
  readonly index: number;
  readonly anchor: ModelAnchor;
  dueMs: number;
  readonly #host: ModelHost;
  readonly #root: Uint8Array;
  readonly #channel: ControlChannel;
  #begun: RelayRebinding | null = null;
  /** Newest last; of two with the same phase only the newer counts. */
  #receiving: Receiving[] = [];
  #newestUsed: Receiving | null = null;
  #sending: Sending | null = null;
  #announced: Sending[] = [];
  #path: SocketAddress | null = null;
  #waiting: 'hold' | 'flip' | null = null;
  #flipMs = Number.POSITIVE_INFINITY;
  #queue: Uint8Array[] = [];
  #rekeyed = -1;
  readonly #notices = createTokenBucket(5, 2);
  readonly #arrivalsNs = { uplink: 0, downlink: 0 };

  constructor(host: ModelHost, anchor: ModelAnchor, { id, index, root }: EngineSession, nowMs: number) {
    this.#host = host;
    this.anchor = anchor;
    this.id = id;
    this.index = index;
    this.#root = root;
    const { relayBoot: boot, used } = host;
    this.#channel = new ControlChannel({ root, sends: 'to-device', index, boot, after: used.counter });
    this.dueMs = nowMs;
  }

  /** Its state machine begins with the first input. */
  get #rebinding(): RelayRebinding {
    this.#begun ??= this.#newRebinding();
    return this.#begun;
  }

  resume(state: SessionState, nowMs: number): void {
    if (this.#sending !== null) return;
    const { data, active } = state;
    const deviceBoot = BigInt(`0x${state.deviceBoot}`);
    const relayBoot = BigInt(`0x${data.relayBoot}`);
    const name = { epoch: BigInt(data.epoch), relayBoot, deviceBoot, keyNumber: data.keyNumber };
    const [slow, fast] = data.windows;
    this.#receive(
      name,
      [slow === undefined ? null : Received.from(slow), fast === undefined ? null : Received.from(fast)],
      0,
    );
    this.#sending = { name, key: this.#key('to-device', name), sequence: data.nextSequence - 1 };
    this.#announced = [];
    this.#path = active === null ? null : { ...active, key: `${active.address}|${active.port}` };
    const { generation, rttMs, control } = state;
    this.#begun = this.#newRebinding({
      active: this.#path,
      generation,
      deviceBoot,
      keyNumber: data.keyNumber,
      rttMs,
      control,
    });
    this.#endWait();
    this.dueMs = nowMs;
  }

  export(): SessionState | null {
    this.#endWait();
    const state = this.#rebinding.exportState();
    if (state === null || this.#sending === null) return null;
    const { name, sequence } = this.#sending;
    const windows = this.#byPhase(name.keyNumber & 3);
    const { active, generation, rttMs, control } = state;
    return {
      id: this.id,
      deviceBoot: hex64(state.deviceBoot),
      generation,
      active: active === null ? null : { address: active.address, port: active.port },
      rttMs,
      control,
      data: {
        epoch: name.epoch.toString(),
        relayBoot: hex64(name.relayBoot),
        keyNumber: name.keyNumber,
        nextSequence: sequence + 1,
        windows:
          windows?.keyNumber === name.keyNumber
            ? windows.lanes.map((lane) => lane?.state() ?? { highest: 0, bitmap: '' })
            : [],
      },
    };
  }

  retire(): void {
    this.#drop();
    const { used } = this.#host;
    if (this.#channel.lastCounter > used.counter) used.counter = this.#channel.lastCounter;
    used.keyNumber = Math.max(used.keyNumber, this.#begun?.keyNumber ?? 0);
  }

  /** True when the datagram is what it says; its inner packet is then the device's. */
  data(from: SocketAddress, octets: Uint8Array, nowMs: number): boolean {
    const refused = this.#refusal(octets, nowMs);
    if (refused !== null) {
      this.#host.count('uplink', refused);
      const may = refused === 'bad-tag' || refused === 'unknown-phase' || refused === 'replayed';
      if (may) this.#step({ type: 'data', from, fresh: false, keyNumber: -1, octets: octets.length }, nowMs);
      return false;
    }
    const receiving = this.#byPhase((octets[0]! & DATA.phaseMask) >> DATA.phaseShift)!;
    const lane = (octets[0]! & DATA.laneBit) >> 1;
    const sequence = sequenceOf(octets, 0);
    const received = receiving.lanes[lane] ?? new Received();
    const isNewest = this.#receiving.indexOf(receiving) >= this.#receiving.indexOf(this.#newestUsed!);
    const fresh = isNewest && sequence > received.highest;
    receiving.lanes[lane] = received;
    received.add(sequence);
    if (isNewest) this.#newestUsed = receiving;
    const { keyNumber } = receiving;
    const elsewhere = from.key !== this.#path?.key || keyNumber !== this.#sending?.name.keyNumber;
    if (fresh && elsewhere)
      this.#step({ type: 'data', from, fresh, keyNumber, octets: octets.length }, nowMs);
    if (sequence >= this.#host.rekeyAfterPackets) this.#rekey(keyNumber, nowMs);
    return true;
  }

  control(from: SocketAddress, octets: Uint8Array, nowMs: number): void {
    const message = this.#channel.open(octets, 0, octets.length);
    if (typeof message !== 'string') this.#step({ type: 'control', from, message }, nowMs);
  }

  deliver(packet: Uint8Array, nowMs: number): void {
    const { count, rekeyAfterPackets } = this.#host;
    if (this.#waiting !== null) {
      const octets = this.#queue.reduce(
        (sum, one) => sum + one.length + DATA.inner,
        packet.length + DATA.inner,
      );
      const isFull = this.#queue.length >= HOLD.packets || octets > HOLD.octets;
      count('downlink', isFull ? 'hold-full' : 'held');
      if (!isFull) this.#queue.push(packet.slice());
      return;
    }
    this.#send(packet);
    if (this.#sending !== null && this.#sending.sequence >= rekeyAfterPackets) {
      this.#rekey(this.#sending.name.keyNumber, nowMs);
    }
  }

  /** True when the session's rate lets the packet through. */
  pays(direction: 'uplink' | 'downlink', octets: number, nowMs: number): boolean {
    const rate = this.#host.policing[direction];
    if (rate === null) return true;
    const next = admit(rate, this.#arrivalsNs[direction], octets, nanoseconds(nowMs));
    if (next !== TOO_SOON) this.#arrivalsNs[direction] = next;
    return next !== TOO_SOON;
  }

  notify(code: RsipErrorNumber, nowMs: number): void {
    if (this.#path === null || !this.#notices.take(nowMs)) return;
    const { deviceBoot: echoBoot, generation, keyNumber } = this.#rebinding;
    const { epoch } = this.anchor;
    this.#control(this.#path, { kind: 'notice', code, epoch, echoBoot, generation, keyNumber });
  }

  tick(nowMs: number): void {
    if (nowMs >= this.anchor.untilMs) {
      this.dueMs = nowMs + SUSPENDED_MS;
      return;
    }
    if (nowMs >= this.#flipMs) {
      this.#flipMs = Number.POSITIVE_INFINITY;
      if (this.#waiting === 'flip') this.#release();
    }
    this.#step({ type: 'tick' }, nowMs);
  }

  #refusal(octets: Uint8Array, nowMs: number): string | null {
    if (octets.length < DATA.inner) return dataRefusalName(DATA_REFUSED.tooShort);
    const receiving = this.#byPhase((octets[0]! & DATA.phaseMask) >> DATA.phaseShift);
    if (receiving === undefined || nowMs >= receiving.untilMs)
      return dataRefusalName(DATA_REFUSED.unknownPhase);
    const received = receiving.lanes[(octets[0]! & DATA.laneBit) >> 1] ?? new Received();
    if (!received.admits(sequenceOf(octets, 0))) return dataRefusalName(DATA_REFUSED.replayed);
    const innerAt = openData(receiving.key, octets, 0, octets.length);
    return innerAt < 0 ? dataRefusalName(innerAt) : null;
  }

  #byPhase(phase: number): Receiving | undefined {
    return this.#receiving.findLast(({ keyNumber }) => (keyNumber & 3) === phase);
  }

  #receive(name: DataKeyName, lanes: Receiving['lanes'], previousUntilMs: number): void {
    const current = this.#receiving.at(-1);
    if (current !== undefined) current.untilMs = previousUntilMs;
    const key = this.#key('to-relay', name);
    this.#receiving.push({ keyNumber: name.keyNumber, key, untilMs: Number.POSITIVE_INFINITY, lanes });
  }

  #rekey(keyNumber: number, nowMs: number): void {
    if (this.#rekeyed === keyNumber || keyNumber !== this.#rebinding.keyNumber) return;
    this.#rekeyed = keyNumber;
    this.#step({ type: 'rekey' }, nowMs);
  }

  #step(input: RelayInput, nowMs: number): void {
    for (const output of this.#rebinding.step(input, nowMs)) this.#carryOut(output, nowMs);
    this.dueMs = Math.min(this.#rebinding.nextDueMs, this.#flipMs);
  }

  #carryOut(output: RelayOutput, nowMs: number): void {
    switch (output.type) {
      case 'send':
        this.#control(output.to, output.draft);
        break;
      case 'hold':
        this.#waiting = 'hold';
        break;
      case 'release':
        if (output.to !== null) this.#path = output.to;
        if (output.to !== null) this.#release();
        else this.#drop();
        break;
      case 'flip':
        // What waited for the former path leaves before it changes.
        if (this.#waiting === 'flip') this.#release();
        this.#path = output.path;
        this.#flipMs = Number.POSITIVE_INFINITY;
        if (output.afterMs > 0 && this.#waiting === null) {
          this.#waiting = 'flip';
          this.#flipMs = nowMs + output.afterMs;
        }
        break;
      case 'keys': {
        const { deviceBoot, keyNumber } = output;
        const name = { epoch: this.anchor.epoch, relayBoot: this.#host.relayBoot, deviceBoot, keyNumber };
        this.#receive(name, [null, null], nowMs + OLD_KEYS_MS);
        this.#announced.push({ name, key: this.#key('to-device', name), sequence: 0 });
        break;
      }
      case 'sender-keys':
        this.#sending =
          this.#announced.find(({ name }) => name.keyNumber === output.keyNumber) ?? this.#sending;
        this.#announced = this.#announced.filter(({ name }) => name.keyNumber > output.keyNumber);
        break;
      default:
    }
  }

  #release(): void {
    this.#waiting = null;
    for (const packet of this.#queue.splice(0)) this.#send(packet);
  }

  #drop(): void {
    this.#waiting = null;
    const lost = this.#queue.splice(0).length;
    if (lost > 0) this.#host.count('downlink', 'hold-dropped', lost);
  }

  #endWait(): void {
    if (this.#path === null) this.#drop();
    else this.#release();
  }

  #send(packet: Uint8Array): void {
    const { count, toDevice } = this.#host;
    const endpoint = this.#path === null ? undefined : this.#endpointFor(this.#path);
    if (this.#path === null || endpoint === undefined) count('downlink', 'no-path');
    else if (this.#sending === null) count('downlink', 'no-key');
    else if (this.#sending.sequence >= REKEY_AFTER_PACKETS) count('downlink', 'key-exhausted');
    else {
      this.#sending.sequence += 1;
      const { key, name, sequence } = this.#sending;
      const { marking } = this.#host;
      const inner = trafficClass(packet, 0);
      const datagram = new Uint8Array(DATA.inner + packet.length);
      datagram.set(packet, DATA.inner);
      setTrafficClass(datagram, DATA.inner, ingressInner(marking, inner));
      const header = { index: this.index, keyNumber: name.keyNumber, lane: 0, sequence } as const;
      sealData(key, header, datagram, 0, packet.length);
      count('downlink', 'forwarded');
      toDevice(endpoint, this.#path, datagram, ingressOuter(marking, inner));
    }
  }

  #control(to: SocketAddress, draft: ControlDraft): void {
    const endpoint = this.#endpointFor(to);
    if (endpoint !== undefined) this.#host.toDevice(endpoint, to, this.#channel.seal(draft), 0);
  }

  #endpointFor({ address }: SocketAddress): string | undefined {
    return this.anchor.endpoints.find((endpoint) => endpoint.includes(':') === address.includes(':'));
  }

  #newRebinding(resumed: Parameters<typeof createRelayRebinding>[0]['resumed'] = null): RelayRebinding {
    const { relayBoot, random, used } = this.#host;
    const { epoch } = this.anchor;
    return createRelayRebinding({
      epoch,
      relayBoot,
      random,
      lastKeyNumber: used.keyNumber,
      hint: null,
      resumed,
    });
  }

  #key(direction: 'to-relay' | 'to-device', name: DataKeyName): SipKey {
    return sipKey(deriveDataKey(this.#root, direction, name));
  }
}

function hex64(value: bigint): string {
  return value.toString(16).padStart(16, '0');
}
