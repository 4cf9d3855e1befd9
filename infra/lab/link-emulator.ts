/**
 * Program: carries Ethernet frames between pairs of TAP devices with delay and loss. One process serves a whole lab.
 *
 * Control is newline-delimited JSON on descriptor 3, one answer per command: see `EmulatorCommand`. The program ends
 * when that channel closes, so an emulator never outlives its lab. The loop is synchronous: frames and commands are
 * taken in turn from one `ppoll`, which wakes with sub-millisecond resolution.
 */
import { writeSync } from 'node:fs';
import { allocate, check, libc, memoryAddress } from '../../src/linux/libc.ts';
import { openTap, type TunDevice } from '../../src/linux/tun.ts';
import { monotonicMs } from '../../src/telemetry/clock.ts';
import { CONTROL_DESCRIPTOR } from './control-channel.ts';
import { DelayLine, type LineCounters, type LinkShape } from './delay-line.ts';
import { PrecisePoller } from './precise-poller.ts';

export type EmulatorCommand =
  | {
      readonly op: 'link';
      readonly link: string;
      readonly ends: readonly [string, string];
      readonly shape: LinkShape;
      readonly seed: number;
    }
  | { readonly op: 'shape'; readonly link: string; readonly change: Partial<LinkShape> }
  | { readonly op: 'carrier'; readonly link: string; readonly up: boolean }
  | { readonly op: 'counters'; readonly link: string };

/** Counters of the two directions, from the first end and from the second end. */
export type LinkCounters = readonly [LineCounters, LineCounters];

interface Direction {
  readonly source: TunDevice;
  readonly target: TunDevice;
  readonly line: DelayLine<Buffer>;
}

// linux/if_tun.h: plugs or pulls the virtual cable, in whatever namespace the device is.
const TUNSETCARRIER = 0x4004_54e2;

function setCarrier(tap: TunDevice, up: boolean): void {
  const flag = allocate(4);
  flag[0] = up ? 1 : 0;
  check('ioctl TUNSETCARRIER', tap.name, libc.ioctl(tap.fd, TUNSETCARRIER, flag));
}

const MTU = 1_500;
const ETHERNET_HEADER = 14;
const ETHERTYPE = 12;
const ARP = 0x0806;
const IPV6 = 0x86dd;
const ICMPV6 = 58;

/**
 * Address resolution crosses at once: the delay stands for the network behind the access link, not for the cable to
 * the first router.
 */
function isAddressResolution(frame: Buffer): boolean {
  const type = frame.readUInt16BE(ETHERTYPE);
  if (type === ARP) return true;
  return type === IPV6 && frame.length > 54 && frame[20] === ICMPV6 && frame[54]! >= 133 && frame[54]! <= 137;
}

/** Frames taken from one descriptor before the others get their turn. */
const BATCH = 64;

class Emulator {
  readonly #links = new Map<string, readonly [Direction, Direction]>();
  readonly #directions: Direction[] = [];
  readonly #frame = Buffer.from(allocate(65_536).buffer);
  readonly #frameAddress = memoryAddress(this.#frame);
  #poller = new PrecisePoller([CONTROL_DESCRIPTOR]);
  #input = '';

  /** Runs until the control channel closes. */
  run(): void {
    for (;;) {
      this.#poller.wait(this.#untilNextDueMs());
      const open = !this.#poller.readable(0) || this.#obey();
      if (!open) return;
      this.#directions.forEach((direction, position) => {
        if (this.#poller.readable(position + 1)) this.#receive(direction);
      });
      this.#release();
    }
  }

  #untilNextDueMs(): number | undefined {
    let earliest: number | undefined;
    for (const { line } of this.#directions) {
      const due = line.nextDueMs;
      if (due !== undefined && (earliest === undefined || due < earliest)) earliest = due;
    }
    return earliest === undefined ? undefined : earliest - monotonicMs();
  }

  #receive(direction: Direction): void {
    const nowMs = monotonicMs();
    for (let taken = 0; taken < BATCH; taken++) {
      const length = direction.source.read(this.#frame, 0, this.#frame.length);
      if (length < ETHERNET_HEADER) return;
      const frame = Buffer.from(this.#frame.subarray(0, length));
      direction.line.offer(frame, nowMs, isAddressResolution(frame));
    }
  }

  #release(): void {
    const nowMs = monotonicMs();
    for (const { line, target } of this.#directions) {
      for (let frame = line.take(nowMs); frame; frame = line.take(nowMs)) {
        if (!target.write(frame, 0, frame.length)) line.counters.lost += 1;
      }
    }
  }

  /** @returns false at the end of the control channel */
  #obey(): boolean {
    const length = libc.read(CONTROL_DESCRIPTOR, this.#frameAddress, this.#frame.length);
    if (length === 0) return false;
    if (length < 0) return true;
    this.#input += this.#frame.toString('utf8', 0, length);
    for (let end = this.#input.indexOf('\n'); end >= 0; end = this.#input.indexOf('\n')) {
      const { id, ...command } = JSON.parse(this.#input.slice(0, end)) as EmulatorCommand & { id: number };
      this.#input = this.#input.slice(end + 1);
      let answer: object;
      try {
        answer = { id, result: this.#execute(command as EmulatorCommand) ?? null };
      } catch (error) {
        answer = { id, error: (error as Error).message };
      }
      writeSync(CONTROL_DESCRIPTOR, `${JSON.stringify(answer)}\n`);
    }
    return true;
  }

  #link(name: string): readonly [Direction, Direction] {
    const link = this.#links.get(name);
    if (!link) throw new Error(`there is no link ${name}`);
    return link;
  }

  #execute(command: EmulatorCommand): LinkCounters | undefined {
    switch (command.op) {
      case 'link': {
        const [first, second] = command.ends;
        const a = openTap({ name: first, mtu: MTU });
        let b: TunDevice;
        try {
          b = openTap({ name: second, mtu: MTU });
        } catch (error) {
          a.close();
          throw error;
        }
        const pair: [Direction, Direction] = [
          { source: a, target: b, line: new DelayLine<Buffer>(command.shape, command.seed) },
          { source: b, target: a, line: new DelayLine<Buffer>(command.shape, command.seed ^ 0x5bd1_e995) },
        ];
        this.#links.set(command.link, pair);
        this.#directions.push(...pair);
        this.#poller = new PrecisePoller([
          CONTROL_DESCRIPTOR,
          ...this.#directions.map(({ source }) => source.fd),
        ]);
        return undefined;
      }
      case 'shape':
        for (const { line } of this.#link(command.link)) line.reshape(command.change);
        return undefined;
      case 'carrier':
        for (const { source, line } of this.#link(command.link)) {
          line.loseAll();
          setCarrier(source, command.up);
        }
        return undefined;
      case 'counters': {
        const [there, back] = this.#link(command.link);
        return [there.line.counters, back.line.counters];
      }
    }
  }
}

new Emulator().run();
