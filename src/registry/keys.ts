import type { Device } from '../protocol/lease.ts';

/** What every version so far has in common. */
const LAYOUT = 'mooring1';
/** Layout of an anchor's data. Another layout gets another number, so two never mix. */
const ANCHOR_LAYOUT = 'mooring2';
/** Layout of a device's index: the same. */
const DEVICE_LAYOUT = 'mooring2';

const ANCHOR_PARTS = [
  'meta',
  'leases',
  'sessions',
  'indexes',
  'expiries',
  'cooling',
  'former',
  'answers',
  'answered',
  'events',
  'hints',
  'report',
  'tenants',
  'wake',
] as const;

/** The keys of an anchor, in the order of commands/include/anchor.lua: one hash tag, one slot. */
export function anchorKeys(anchor: string): string[] {
  const keys = ANCHOR_PARTS.map((part) => `${ANCHOR_LAYOUT}:{a:${anchor}}:${part}`);
  return [...keys, `${LAYOUT}:{a:${anchor}}:meta`];
}

/** The sharded channel that only wakes readers of an anchor's stream. */
export function wakeChannel(anchor: string): string {
  return `${ANCHOR_LAYOUT}:{a:${anchor}}:wake`;
}

/** The one key of a device (commands/include/device.lua). */
export function deviceKeys({ tenant, id }: Device): string[] {
  return [`${DEVICE_LAYOUT}:{d:${tenant}/${id}}`];
}

/** What devices' indexes on a server (its master_replid) are called: INDEX_NAME in commands/include/device.lua. */
export function indexName(server: string): string {
  return `${server}/2`;
}

/** What of a pool was dealt to which anchor for a tenant (commands/include/tenant.lua): one slot, the tenant's. */
export function tenantKeys(tenant: string, pool: string): string[] {
  return ['dealt', 'asked'].map((part) => `${LAYOUT}:{t:${tenant}}:${pool}:${part}`);
}

/** Anchors of a pool by free count: a hint. */
export function poolKey(pool: string): string {
  return `${LAYOUT}:{p:${pool}}:anchors`;
}

/** What a pool is: field `policy`, and what a configuration file last said of it and of each of its anchors. */
export function poolPolicyKey(pool: string): string {
  return `${LAYOUT}:{p:${pool}}:policy`;
}

/** Held by whoever is changing a pool just now. */
export function poolTurnKey(pool: string): string {
  return `${LAYOUT}:{p:${pool}}:turn`;
}

/** Names of all pools: a hint where to look. */
export function poolsKey(): string {
  return `${LAYOUT}:pools`;
}

/** Counts the changes of pools and anchors. */
export function poolRevisionKey(): string {
  return `${LAYOUT}:pools:revision`;
}

/** Which anchor has which addresses, in the order of commands/take_space.lua. */
export function spaceKeys(): string[] {
  return [`${LAYOUT}:{space}:spans`, `${LAYOUT}:{space}:anchors`];
}

/** Since when which servers' indexes of devices have answered. */
export function serversKey(): string {
  return `${LAYOUT}:servers`;
}

/** Client ids drawn so far. */
export function clientsKey(): string {
  return `${LAYOUT}:clients`;
}

export function relayKey(relay: string): string {
  return `${LAYOUT}:{r:${relay}}:announcement`;
}

/** Ids of relays that have ever announced themselves here: a hint where to look. */
export function relaysKey(): string {
  return `${LAYOUT}:relays`;
}
