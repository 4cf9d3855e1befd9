/** TCP by iperf3, which tells as JSON what came of it. */
import { setTimeout as delay } from 'node:timers/promises';
import type { Lab, Namespace } from './lab.ts';

const PORT = 5201;
const LISTENS_WITHIN_MS = 5_000;

export interface IperfEnds {
  readonly device: { readonly namespace: Namespace; readonly address: string };
  readonly peer: { readonly address: string };
}

export interface IperfSession {
  /** From the device, to it, or both at once. */
  readonly way: 'up' | 'down' | 'both';
  readonly seconds: number;
  /** Seconds in front of these that do not count; default 0. */
  readonly warmUpSeconds?: number;
  /** Of each way; default: as much as goes. */
  readonly bitsPerSecond?: number;
}

interface Sum {
  readonly bytes: number;
  readonly bits_per_second: number;
}

/** The part of iperf3's JSON that is looked at; `…_bidir_reverse` is the way down of a session both ways. */
export interface IperfReport {
  readonly error?: string;
  readonly start: { readonly tcp_mss_default: number };
  readonly intervals: readonly { readonly sum: Sum; readonly sum_bidir_reverse?: Sum }[];
  readonly end: {
    readonly sum_sent: Sum & { readonly retransmits?: number };
    readonly sum_received: Sum;
    readonly sum_received_bidir_reverse?: Sum;
  };
}

/** Resolves when the server takes sessions, one at a time. @throws Error if iperf3 is not there */
export async function startIperfServer(lab: Lab, namespace: Namespace, address: string): Promise<void> {
  // A program that is not there would end the lab.
  await lab.run(namespace, ['sh', '-c', 'command -v iperf3']);
  await lab.spawn(namespace, ['iperf3', '--server', '--bind', address, '--port', String(PORT)]);
  for (const deadline = Date.now() + LISTENS_WITHIN_MS; ; await delay(20)) {
    const { stdout } = await lab.run(namespace, ['ss', '-Hltn', `sport = :${PORT}`]);
    if (stdout.trim() !== '') return;
    if (Date.now() > deadline) throw new Error(`iperf3 does not listen at ${address} port ${PORT}`);
  }
}

/** One TCP session, or two if both ways, from its start to its end. @throws Error with what iperf3 says if it broke */
export async function runIperf(lab: Lab, ends: IperfEnds, session: IperfSession): Promise<IperfReport> {
  const { way, seconds, warmUpSeconds = 0, bitsPerSecond } = session;
  const { stdout } = await lab.run(ends.device.namespace, [
    ...['iperf3', '--json', '--client', ends.peer.address, '--port', String(PORT)],
    ...['--bind', ends.device.address, '--connect-timeout', '5000'],
    ...['--time', String(seconds), '--omit', String(warmUpSeconds)],
    ...(bitsPerSecond === undefined ? [] : ['--bitrate', String(bitsPerSecond)]),
    ...(way === 'down' ? ['--reverse'] : way === 'both' ? ['--bidir'] : []),
  ]);
  const report = JSON.parse(stdout) as IperfReport;
  if (report.error !== undefined) throw new Error(`iperf3: ${report.error}`);
  return report;
}
