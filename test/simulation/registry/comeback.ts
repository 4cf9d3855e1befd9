import { CAPACITY, COOLING_MS, QUARANTINE_MS } from './shape.ts';
import type { World } from './world.ts';

/** Long after everything has ended, every resource can be leased to somebody, once. */
export async function everythingComesBack(world: World): Promise<void> {
  for (const anchor of world.anchors) await comesBack(world, anchor);
}

async function comesBack(
  { audit: { store, look }, chance, ledger, serverOf, shape }: World,
  anchor: string,
): Promise<void> {
  const database = serverOf(anchor).current;
  let aheadMs = 3_600_000 + 10 * COOLING_MS;
  look(database, aheadMs);
  const claim = () =>
    store.claim(anchor, 'operator', 'f'.repeat(16), 600_000, true).catch(() => ({ epoch: 0n }));
  let { epoch } = await claim();
  // A quarantine that nobody had met yet begins with that.
  if (epoch === 0n) {
    aheadMs += 2 * QUARANTINE_MS;
    look(database, aheadMs);
    ({ epoch } = await claim());
  }
  const { leases } = await store.snapshot(anchor);
  const swept = await store.sweep(anchor, epoch, 1_000);
  if (swept.ended.length !== leases.length) ledger.broken(`a sweep of ${anchor} leaves leases`);
  look(database, aheadMs + 2 * COOLING_MS);
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
