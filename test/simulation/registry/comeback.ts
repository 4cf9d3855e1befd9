import { CAPACITY, COOLING_MS, QUARANTINE_MS } from './shape.ts';
import type { World } from './world.ts';

/** Long after everything has ended. */
const AHEAD_MS = 3_600_000 + 10 * COOLING_MS;
/** Quarantines that nobody had met before are over. */
const SETTLED_MS = AHEAD_MS + 2 * QUARANTINE_MS;

/** Long after everything has ended, every resource can be leased to somebody, once. */
export async function everythingComesBack(world: World): Promise<void> {
  // All are claimed first: while one cannot say whose leases it has, no device of a doubted index gets any of another.
  const epochs = new Map<string, bigint>();
  for (const anchor of world.anchors) epochs.set(anchor, await claimed(world, anchor));
  for (const [anchor, epoch] of epochs) await comesBack(world, anchor, epoch);
}

async function claimed({ audit: { store, look }, serverOf }: World, anchor: string): Promise<bigint> {
  const database = serverOf(anchor).current;
  const claim = () =>
    store.claim(anchor, 'operator', 'f'.repeat(16), 600_000, true).catch(() => ({ epoch: 0n }));
  look(database, AHEAD_MS);
  const { epoch } = await claim();
  if (epoch !== 0n) return epoch;
  // A quarantine that nobody had met yet has begun with that.
  look(database, SETTLED_MS);
  return (await claim()).epoch;
}

async function comesBack(
  { audit: { store, look }, chance, ledger, serverOf, shape }: World,
  anchor: string,
  epoch: bigint,
): Promise<void> {
  const database = serverOf(anchor).current;
  look(database, SETTLED_MS);
  const { leases } = await store.snapshot(anchor);
  const swept = await store.sweep(anchor, epoch, 1_000);
  if (swept.ended.length !== leases.length) ledger.broken(`a sweep of ${anchor} leaves leases`);
  look(database, SETTLED_MS + 2 * COOLING_MS);
  const given = new Set<string>();
  let refusal = '';
  for (;;) {
    const device = { tenant: 't', id: `stranger-${anchor}-${given.size}` };
    const granted = await store
      .grant({
        ...{ pool: 'p', anchor, device, thumbprint: 'k'.repeat(43), leaseMs: 60_000, quota: 9 },
        kind: shape.sharing === 'whole' ? 'rsa-ip' : 'rsipsec',
        requestId: chance.octets(16).toString('hex'),
      })
      .catch((error: Error) => {
        refusal = error.message;
      });
    if (granted === undefined) break;
    given.add(`${granted.lease.address} ${granted.lease.ports?.first ?? ''}`);
  }
  if (given.size !== CAPACITY)
    ledger.broken(`${given.size} of ${CAPACITY} resources of ${anchor} come back: ${refusal}`);
}
