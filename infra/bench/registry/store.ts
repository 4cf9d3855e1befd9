import { randomBytes } from 'node:crypto';
import { pino } from 'pino';
import type { Device } from '../../../src/protocol/lease.ts';
import { openRegistry } from '../../../src/registry/open.ts';
import type { Granted, Registry } from '../../../src/registry/registry.ts';
import { closedLoop } from './load.ts';
import { endpointOf, PER_ANCHOR, prefixOf } from './space.ts';

const RELAY = 'r1';
const BOOT = '00'.repeat(8);
const POOL = 'bench';
const LEASE_MS = 3_600_000;
/** Longer than any run: nobody renews here. */
const CLAIM_MS = 86_400_000;
const WIDTH = 200;

const SILENT = pino({ level: 'silent' });

/** Leases at the registry's own interface, from this process over one connection (to each server of a cluster). */
export interface Store {
  /** Makes room for so many leases more. */
  makeRoom(leases: number): Promise<void>;
  /** A new device's first lease, pending. */
  grant(n: number): Promise<Granted>;
  /** What its owner relay says when it has installed it. */
  activate(granted: Granted): Promise<unknown>;
  extend(granted: Granted): Promise<unknown>;
  /** Keeps where the lease's session was proven last, for the nth time. */
  hint(granted: Granted, n: number): Promise<unknown>;
  close(): Promise<void>;
}

/** @param url as `redisUrl` of the settings */
export async function openStore(url: string): Promise<Store> {
  const registry: Registry = await openRegistry({ url, name: 'mooring-bench', log: SILENT });
  let anchors = 0;
  const epochs = new Map<string, bigint>();
  return {
    async makeRoom(leases) {
      const first = anchors;
      const count = Math.ceil(leases / PER_ANCHOR);
      anchors += count;
      await closedLoop(16, { count }, async (n) => {
        const id = `bench-${first + n}`;
        await registry.declareAnchor({
          id,
          pool: POOL,
          sharing: 'whole',
          prefixes: [prefixOf(first + n)],
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
    hint: ({ lease, session }, n) =>
      registry.putHint(lease.anchor, epochs.get(lease.anchor)!, lease.device, {
        session: session.id,
        address: '203.0.113.7',
        port: 40_000,
        generation: n + 1,
        deviceBoot: BOOT,
      }),
    close: () => registry.close(),
  };
}

function deviceOf(n: number): Device {
  return { tenant: 'bench', id: `device-${n}` };
}

/** Grants and activates `count` leases, of devices from `from` on; keeps those whose number `keep` likes. */
export async function fill(
  store: Store,
  from: number,
  count: number,
  keep: (n: number) => boolean,
): Promise<Granted[]> {
  const kept: Granted[] = [];
  await closedLoop(WIDTH, { count }, async (n) => {
    const granted = await store.grant(from + n);
    await store.activate(granted);
    if (keep(from + n)) kept.push(granted);
  });
  return kept;
}
