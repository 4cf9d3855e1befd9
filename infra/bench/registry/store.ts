import { randomBytes } from 'node:crypto';
import { pino } from 'pino';
import type { Device } from '../../../src/protocol/lease.ts';
import { openRegistry } from '../../../src/registry/open.ts';
import type { Granted, Registry } from '../../../src/registry/registry.ts';
import { all } from './load.ts';

const RELAY = 'r1';
const BOOT = '00'.repeat(8);
const POOL = 'bench';
/** What an anchor holds at most. */
const PER_ANCHOR = 4_096;
const LEASE_MS = 3_600_000;
/** Longer than any run: nobody renews here. */
const CLAIM_MS = 86_400_000;
const WIDTH = 200;

export const SILENT = pino({ level: 'silent' });

/** Leases at the registry's own interface, from one process over one connection. */
export interface Store {
  readonly registry: Registry;
  /** Makes room for so many leases more. */
  makeRoom(leases: number): Promise<void>;
  /** A new device's first lease, pending. */
  grant(n: number): Promise<Granted>;
  /** What its owner relay says when it has installed it. */
  activate(granted: Granted): Promise<unknown>;
  extend(granted: Granted): Promise<unknown>;
  close(): Promise<void>;
}

export async function openStore(socket: string): Promise<Store> {
  const registry = await openRegistry({ url: socket, name: 'mooring-bench', log: SILENT });
  let anchors = 0;
  const epochs = new Map<string, bigint>();
  return {
    registry,
    async makeRoom(leases) {
      const more = Math.ceil(leases / PER_ANCHOR);
      const first = anchors;
      anchors += more;
      await all(more, 16, async (n) => {
        const id = `bench-${first + n}`;
        await registry.declareAnchor({
          id,
          pool: POOL,
          sharing: 'whole',
          prefixes: [`${prefixOf(first + n)}/20`],
          endpoints: [endpointOf(first + n)],
          home: RELAY,
        });
        epochs.set(id, (await registry.claim(id, RELAY, BOOT, CLAIM_MS)).epoch);
      });
    },
    grant: (n) =>
      registry.grant({
        pool: POOL,
        device: deviceOf(n),
        thumbprint: 'k'.repeat(43),
        kind: 'rsa-ip',
        leaseMs: LEASE_MS,
        requestId: randomBytes(16).toString('hex'),
        quota: 4,
      }),
    activate: ({ lease }) => registry.activate(lease.anchor, lease.id, epochs.get(lease.anchor)!),
    extend: ({ lease }) =>
      registry.extend({
        leaseId: lease.id,
        device: lease.device,
        leaseMs: LEASE_MS,
        requestId: randomBytes(16).toString('hex'),
      }),
    close: () => registry.close(),
  };
}

function deviceOf(n: number): Device {
  return { tenant: 'bench', id: `device-${n}` };
}

/** 10.0.0.0/8 in pieces of 4,096 addresses, 11.0.0.0/8 behind it. */
function prefixOf(anchor: number): string {
  return `${10 + (anchor >> 12)}.${(anchor >> 4) & 0xff}.${(anchor & 0x0f) << 4}.0`;
}

function endpointOf(anchor: number): string {
  return `198.18.${anchor >> 8}.${anchor & 0xff}`;
}

/** Grants and activates `count` leases, of devices from `from` on; keeps those whose number `keep` likes. */
export async function fill(
  store: Store,
  from: number,
  count: number,
  keep: (n: number) => boolean,
): Promise<Granted[]> {
  const kept: Granted[] = [];
  await all(count, WIDTH, async (n) => {
    const granted = await store.grant(from + n);
    await store.activate(granted);
    if (keep(from + n)) kept.push(granted);
  });
  return kept;
}
