/**
 * Program: one end of numbered UDP traffic. Argument: `ProbeConfiguration` as JSON. Records every packet with
 * CLOCK_MONOTONIC times (probe-log.ts). Obeys `ProbeCommand` on descriptor 3 and ends when that channel closes.
 */
import type dgram from 'node:dgram';
import { readFileSync } from 'node:fs';
import { monotonicMs } from '../../src/telemetry/clock.ts';
import { serve } from './control-channel.ts';
import { ProbeLog } from './probe-log.ts';
import { openProbeSocket } from './probe-socket.ts';

export interface Endpoint {
  readonly address: string;
  readonly port: number;
}

export interface ProbeFlow {
  readonly name: string;
  readonly local: Endpoint;
  readonly remote: Endpoint;
  /** 0: receive only. */
  readonly packetsPerSecond: number;
  /** UDP payload, at least 16. */
  readonly payloadOctets: number;
}

export interface ProbeConfiguration {
  readonly directory: string;
  readonly flows: readonly ProbeFlow[];
}

export interface ProbeCommand {
  /** `start` and `pause` concern sending; receiving always runs. `report` writes the logs out and answers counts. */
  readonly op: 'start' | 'pause' | 'report';
}

export interface ProbeReport {
  readonly flows: Readonly<
    Record<string, { readonly sent: number; readonly received: number; readonly errors: number }>
  >;
  /** Datagrams that this namespace's sockets lost because a probe was too slow to take them. */
  readonly socketDrops: number;
}

/** Payload: sequence (4), zero (4), sent at (8, float64 milliseconds), filling. Big-endian. */
const SEQUENCE = 0;
const SENT_AT = 8;
const HEADER = 16;
/** Late packets are made up for, but never more than this at once. */
const LARGEST_BURST = 5;
const FLUSH_EVERY_MS = 200;

class Flow {
  sent = 0;
  receivedCount = 0;
  errors = 0;
  readonly log: ProbeLog;
  readonly #socket: dgram.Socket;
  readonly #settings: ProbeFlow;
  readonly #packet: Buffer;
  #scheduleMs = 0;

  private constructor(settings: ProbeFlow, directory: string, socket: dgram.Socket) {
    this.#settings = settings;
    this.#socket = socket;
    this.#packet = Buffer.alloc(Math.max(HEADER, settings.payloadOctets));
    this.log = new ProbeLog(directory, settings.name);
    socket.on('error', () => {
      this.errors += 1;
    });
    socket.on('message', (packet) => {
      const receivedMs = monotonicMs();
      if (packet.length < HEADER) return;
      this.receivedCount += 1;
      this.log.received(packet.readUInt32BE(SEQUENCE), packet.readDoubleBE(SENT_AT), receivedMs);
    });
  }

  static async open(settings: ProbeFlow, directory: string): Promise<Flow> {
    const { local, remote } = settings;
    const socket = await openProbeSocket(local.address, local.port);
    const flow = new Flow(settings, directory, socket);
    await new Promise<void>((resolve) => socket.connect(remote.port, remote.address, resolve));
    return flow;
  }

  startAt(nowMs: number): void {
    this.#scheduleMs = nowMs;
  }

  /** Sends what is due. Behind by more than a burst, the schedule moves: a stalled probe does not flood afterwards. */
  sendDue(nowMs: number): void {
    const { packetsPerSecond } = this.#settings;
    if (packetsPerSecond <= 0) return;
    const intervalMs = 1_000 / packetsPerSecond;
    const due = Math.floor((nowMs - this.#scheduleMs) / intervalMs) + 1;
    if (due > LARGEST_BURST) this.#scheduleMs += (due - LARGEST_BURST) * intervalMs;
    for (let count = 0; count < Math.min(due, LARGEST_BURST); count++) {
      this.#scheduleMs += intervalMs;
      this.#sendOne();
    }
  }

  #sendOne(): void {
    const sequence = this.sent++;
    const sentMs = monotonicMs();
    // The socket sends from this memory later: each packet has its own.
    const packet = Buffer.from(this.#packet);
    packet.writeUInt32BE(sequence, SEQUENCE);
    packet.writeDoubleBE(sentMs, SENT_AT);
    this.log.sent(sequence, sentMs);
    this.#socket.send(packet, (error) => {
      if (error) this.errors += 1;
    });
  }
}

/** RcvbufErrors of this namespace. */
function socketDrops(): number {
  const [names, values] = readFileSync('/proc/net/snmp', 'utf8')
    .split('\n')
    .filter((line) => line.startsWith('Udp:'))
    .map((line) => line.split(' '));
  return Number(values?.[names?.indexOf('RcvbufErrors') ?? -1] ?? 0);
}

async function main(): Promise<void> {
  const configuration = JSON.parse(process.argv[2] ?? '') as ProbeConfiguration;
  const flows = new Map<string, Flow>();
  for (const settings of configuration.flows) {
    flows.set(settings.name, await Flow.open(settings, configuration.directory));
  }
  const flush = () => {
    for (const flow of flows.values()) flow.log.flush();
  };
  setInterval(flush, FLUSH_EVERY_MS);

  let sending: NodeJS.Timeout | undefined;
  const tick = () => {
    const nowMs = monotonicMs();
    for (const flow of flows.values()) flow.sendDue(nowMs);
    sending = setTimeout(tick, 1);
  };
  const pause = () => {
    clearTimeout(sending);
    sending = undefined;
  };
  const report = (): ProbeReport => {
    flush();
    const counts = [...flows].map(
      ([name, { sent, receivedCount, errors }]) => [name, { sent, received: receivedCount, errors }] as const,
    );
    return { flows: Object.fromEntries(counts), socketDrops: socketDrops() };
  };
  const end = () => {
    pause();
    flush();
    process.exit(0);
  };
  process.on('SIGTERM', end);

  const execute = (command: ProbeCommand): ProbeReport | null => {
    switch (command.op) {
      case 'start':
        if (sending) return null;
        for (const flow of flows.values()) flow.startAt(monotonicMs());
        tick();
        return null;
      case 'pause':
        pause();
        return null;
      case 'report':
        return report();
    }
  };
  serve(execute, end);
}

await main();
