/** Flows whose packets say when they were sent, mixed at given rates. */
import { monotonicMs } from '../../../src/telemetry/clock.ts';
import { IPV4_HEADER } from './packets.ts';

export interface StampedLane {
  /** Sent again and again, stamped anew each time. */
  readonly packet: Uint8Array;
  readonly packetsPerSecond: number;
  readonly queue: () => void;
  readonly flush: () => void;
}

/** Behind 8 octets of ESP or UDP header: nanoseconds of the monotonic clock, as xdp/ends.bpf.c reads them. */
const STAMP_AT = IPV4_HEADER + 8;
/** Few at a time: a packet must not wait for those sent with it. */
const BURST = 8;

/** Blocks for so long. A lane that falls behind makes up for it. */
export function offerStamped(lanes: readonly StampedLane[], forMs: number): void {
  const pause = new Int32Array(new SharedArrayBuffer(4));
  const stamps = lanes.map(({ packet }) => new DataView(packet.buffer));
  const sent = lanes.map(() => 0);
  const startMs = monotonicMs();
  for (let nowMs = startMs; nowMs - startMs < forMs; nowMs = monotonicMs()) {
    let burst = 0;
    for (const [number, { packetsPerSecond, queue, flush }] of lanes.entries()) {
      const due = Math.floor(((nowMs - startMs) * packetsPerSecond) / 1_000 - sent[number]!);
      for (let i = 0; i < Math.min(due, BURST); i += 1) {
        stamps[number]!.setBigUint64(STAMP_AT, process.hrtime.bigint(), true);
        queue();
        sent[number]! += 1;
        burst += 1;
      }
      flush();
    }
    if (burst === 0) Atomics.wait(pause, 0, 0, 0.05);
  }
}
