import { randomBytes } from 'node:crypto';
import { setTimeout as wait } from 'node:timers/promises';
import { MooringError } from '../../../src/protocol/errors.ts';
import type { Lease, Session } from '../../../src/protocol/lease.ts';
import type { Registry } from '../../../src/registry/registry.ts';

const TTL_MS = 60_000;

/** What a relay does with an anchor of the registry, and what it remembers of it. */
export interface OneRelay {
  readonly anchor: string;
  readonly leases: ReadonlyMap<string, Lease>;
  readonly sessions: readonly Session[];
  epoch(): bigint;
  /** A lease granted and installed; a request that is said again is the same lease. */
  lease(device: string, requestId?: string): Promise<Lease>;
  /** Ends a lease by its device's word. */
  free(lease: Lease): Promise<void>;
  /** Does `work` until the registry takes it: reports whenever it is asked what is held. At most 20 s. */
  persist<T>(work: () => Promise<T>): Promise<T>;
}

export const requestId = () => randomBytes(16).toString('hex');

/** Declares an anchor (`prefix`, 254 addresses) and serves it. */
export async function oneRelay(registry: Registry, anchor: string, prefix: string): Promise<OneRelay> {
  const me = { relay: 'r1', boot: 'b'.repeat(16) };
  await registry.declareAnchor({
    ...{ id: anchor, pool: anchor, sharing: 'whole', home: me.relay },
    ...{ prefixes: [prefix], endpoints: ['203.0.113.1'] },
  });
  let { epoch } = await registry.claim(anchor, me.relay, me.boot, TTL_MS);
  const leases = new Map<string, Lease>();
  const sessions = new Map<string, Session>();
  let counter = 1n;
  const saw = ({ fence }: Pick<Lease, 'fence'>) => {
    const seen = BigInt(fence.slice(fence.indexOf('-') + 1));
    if (seen > counter) counter = seen;
  };
  const report = () =>
    registry.report(
      anchor,
      {
        ...me,
        epoch,
        counter,
        hasStandby: false,
        leases: [...leases.values()],
        sessions: [...sessions.values()],
      },
      TTL_MS,
    );
  const settle = async () => {
    try {
      ({ epoch } = await report());
      const { lastId } = await registry.snapshot(anchor);
      saw({ fence: lastId });
    } catch (error) {
      if (!(error instanceof MooringError)) throw error;
    }
  };
  return {
    anchor,
    leases,
    get sessions() {
      return [...sessions.values()];
    },
    epoch: () => epoch,
    async lease(device, id = requestId()) {
      const { lease, session } = await registry.grant({
        ...{ pool: anchor, device: { tenant: 'acme', id: device }, thumbprint: 'k'.repeat(43) },
        ...{ kind: 'rsa-ip', leaseMs: 600_000, requestId: id, quota: 10 },
      });
      const installed = await registry.activate(anchor, lease.id, epoch);
      saw(installed);
      leases.set(installed.id, installed);
      sessions.set(session.id, session);
      return installed;
    },
    async free({ id, device }) {
      saw(await registry.free({ leaseId: id, device, requestId: requestId() }));
      leases.delete(id);
    },
    async persist(work) {
      const deadline = Date.now() + 20_000;
      for (;;) {
        try {
          return await work();
        } catch (error) {
          if (!(error instanceof MooringError) || Date.now() > deadline) throw error;
          if (error.code === 'ERR_MOORING_QUARANTINED' || error.code === 'ERR_MOORING_STALE_EPOCH') {
            await settle();
          } else if (!error.temporary) throw error;
          await wait(50);
        }
      }
    },
  };
}
