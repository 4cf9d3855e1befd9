import { closeSync, openSync, readdirSync, readFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import type { Lease } from '../../src/protocol/lease.ts';

/**
 * What happened in a run, as every process that took part wrote it down. Instants are milliseconds of CLOCK_MONOTONIC,
 * which all processes of a machine share. An entry is written at once, so that a process that is killed has said all
 * that it did.
 */
export type Entry =
  /** A relay's process began. */
  | { readonly type: 'started'; readonly atMs: number; readonly relay: string; readonly boot: string }
  /** Its data path forwards for the anchor from now until `untilMs`, also when the process is killed or stopped. */
  | {
      readonly type: 'serves';
      readonly atMs: number;
      readonly relay: string;
      readonly boot: string;
      readonly anchor: string;
      readonly epoch: string;
      readonly untilMs: number;
    }
  | {
      readonly type: 'deadline';
      readonly atMs: number;
      readonly relay: string;
      readonly boot: string;
      readonly anchor: string;
      readonly untilMs: number;
    }
  /** It forwards for the anchor no more. */
  | {
      readonly type: 'stops';
      readonly atMs: number;
      readonly relay: string;
      readonly boot: string;
      readonly anchor: string;
    }
  /** It forwards for the lease, while it does for the anchor, until `untilMs`. */
  | {
      readonly type: 'installs';
      readonly atMs: number;
      readonly relay: string;
      readonly boot: string;
      readonly anchor: string;
      readonly lease: string;
      readonly resources: readonly string[];
      readonly untilMs: number;
    }
  | {
      readonly type: 'uninstalls';
      readonly atMs: number;
      readonly relay: string;
      readonly boot: string;
      readonly anchor: string;
      readonly lease: string;
    }
  /** A relay read an event of an anchor's stream. */
  | {
      readonly type: 'event';
      readonly atMs: number;
      readonly relay: string;
      readonly kind: string;
      readonly anchor: string;
      readonly fence: string;
      readonly lease: string;
      readonly device: string;
      readonly resources: readonly string[];
    }
  | Operation
  /** A device is about to ask for the end of a lease. */
  | { readonly type: 'lets-go'; readonly atMs: number; readonly lease: string }
  /** The registry answered a change with a fence; a claim with an epoch, which stands here as `<epoch>-0`. */
  | { readonly type: 'written'; readonly atMs: number; readonly anchor: string; readonly fence: string }
  /** A change that was answered is not in the registry any more. */
  | { readonly type: 'unwritten'; readonly atMs: number; readonly anchor: string; readonly fence: string }
  /** The registry refuses to change an anchor, because it may have lost something; and no longer. */
  | {
      readonly type: 'quarantined' | 'settled';
      readonly atMs: number;
      readonly relay: string;
      readonly anchor: string;
    }
  /** Something was broken, or mended. */
  | { readonly type: 'fault'; readonly atMs: number; readonly what: FaultKind; readonly where: string }
  /** All that the registry holds of an anchor when everything works again. */
  | {
      readonly type: 'held';
      readonly atMs: number;
      readonly anchor: string;
      readonly leases: readonly LeaseFacts[];
    };

/** What a device asked for, and what became of it. */
export interface Operation {
  readonly type: 'operation';
  readonly op: 'lease' | 'extend' | 'free' | 'attach';
  readonly device: string;
  /** When it was first asked, and when the last answer came; a retry of the same request is the same operation. */
  readonly askedMs: number;
  readonly atMs: number;
  readonly outcome: 'done' | 'refused' | 'unknown';
  /** Of the last refusal. */
  readonly code?: string;
  /** The lease that it is about: of `lease`, only when it was granted. */
  readonly lease?: LeaseFacts;
  /** What an `extend` asked for, milliseconds. */
  readonly leaseMs?: number;
}

export type FaultKind =
  | 'fail-over'
  | 'emptied'
  | 'restarted'
  | 'stopped'
  | 'continued'
  | 'partitioned'
  | 'healed'
  | 'killed'
  /** A relay's memory and its journal are gone: what only they knew may be lost. */
  | 'witness-lost';

export interface LeaseFacts {
  readonly id: string;
  readonly anchor: string;
  readonly device: string;
  readonly resources: readonly string[];
  readonly fence: string;
  /** Life that it had left when the registry was read, milliseconds. */
  readonly remainingMs: number;
}

export function factsOf(lease: Lease): LeaseFacts {
  return {
    id: lease.id,
    anchor: lease.anchor,
    device: `${lease.device.tenant}/${lease.device.id}`,
    resources: resourcesOf(lease),
    fence: lease.fence,
    remainingMs: lease.remainingMs,
  };
}

/** Each thing that no two leases may have at one time, by name. */
export function resourcesOf({ anchor, address, ports, spis, ikeSpis }: Lease): string[] {
  if (ports === null) return [address];
  return [
    `${address} ports ${ports.first}+${ports.count}`,
    ...(spis === null ? [] : [`${anchor} spis ${spis.first}+${spis.count}`]),
    ...(ikeSpis == null ? [] : [`${anchor} ike ${ikeSpis.first}+${ikeSpis.count}`]),
  ];
}

export interface Recorder {
  write(entry: Entry): void;
  close(): void;
}

/** Writes entries to a file of its own in `folder`; whoever writes there next to it does not disturb it. */
export function recordIn(folder: string, name: string): Recorder {
  const file = openSync(join(folder, `${name}.history`), 'a');
  return {
    write: (entry) => void writeSync(file, `${JSON.stringify(entry)}\n`),
    close: () => closeSync(file),
  };
}

/** All entries of a folder, in the order of their instants; of one process in the order in which it wrote them. */
export function readHistory(folder: string): Entry[] {
  const entries: Entry[] = [];
  for (const name of readdirSync(folder).sort()) {
    if (!name.endsWith('.history')) continue;
    const lines = readFileSync(join(folder, name), 'utf8').split('\n');
    // The last one is empty, or what a killed process did not come to finish.
    lines.pop();
    for (const line of lines) entries.push(JSON.parse(line) as Entry);
  }
  return entries.sort((a, b) => a.atMs - b.atMs);
}
