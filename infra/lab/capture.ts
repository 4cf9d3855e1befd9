/** Captures on interfaces of the lab, by tcpdump. */
import { readFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import type { Lab, Namespace } from './lab.ts';
import { type Frame, readFrames } from './pcap.ts';

export interface CaptureOptions {
  readonly namespace: Namespace;
  readonly interface: string;
  /** Unique name within the lab. */
  readonly name: string;
  /** tcpdump filter expression; default: everything. */
  readonly filter?: string;
  /** Octets kept of each frame; default 2,048: all of them. */
  readonly snapLength?: number;
}

export interface Capture {
  readonly file: string;
  /** What has been captured so far; may be called while it runs. */
  frames(): Frame[];
  /** Ends it. Afterwards `dropped` tells whether the capture is complete. */
  stop(): Promise<{ readonly dropped: number }>;
}

/** Resolves when frames are being captured. */
export async function startCapture(lab: Lab, options: CaptureOptions): Promise<Capture> {
  const file = lab.file(`${options.name}.pcap`);
  const argv = [
    ...['tcpdump', '--immediate-mode', '-U', '-n', '-p', '-Z', 'root', '-B', '8192'],
    ...['-i', options.interface, '-s', String(options.snapLength ?? 2_048), '-w', file],
    ...(options.filter ? [options.filter] : []),
  ];
  const tcpdump = await lab.spawn(options.namespace, argv, { label: `capture ${options.name}` });
  while (!tcpdump.output().includes('listening on')) {
    if (!tcpdump.running) throw new Error(`capture ${options.name} did not start: ${tcpdump.output()}`);
    await delay(5);
  }
  return {
    file,
    frames: () => [...readFrames(readFileSync(file))],
    async stop() {
      await tcpdump.stop();
      const dropped = /(\d+) packets? dropped by kernel/.exec(tcpdump.output())?.[1];
      return { dropped: Number(dropped ?? Number.NaN) };
    },
  };
}
