import type { MooringError } from '../../../src/protocol/errors.ts';
import type { Device, Lease } from '../../../src/protocol/lease.ts';
import type { RelayPlane, Tunnel } from '../../../src/protocol/relay-plane.ts';
import type { Registry } from '../../../src/registry/registry.ts';
import type { Caller, Door } from '../../../src/signalling/door.ts';
import { silent } from '../../integration/registry/real-redis.ts';
import type { Chance } from './chance.ts';
import type { Product } from './product.ts';
import type { Process } from './scheduler.ts';

/** Leases that a device may have of the pool. */
export const QUOTA = 2;
const OWNER_TIMEOUT_MS = 800;
const TUNNEL = {} as Tunnel;

/** What a device may ask of a signalling node. */
export interface SignallingActor {
  readonly process: Process;
  lease(device: Device, requestId: string, leaseMs: number): Promise<Lease>;
  extend(device: Device, leaseId: string, leaseMs: number): Promise<Lease>;
  free(device: Device, leaseId: string): Promise<void>;
}

/** The door's own handlers over a simulated registry and simulated relay planes. */
export function startSignalling(options: {
  readonly product: Product;
  readonly process: Process;
  readonly registry: Registry;
  readonly chance: Chance;
  readonly kind: Lease['kind'];
  planeFor(relay: string): Promise<RelayPlane>;
}): SignallingActor {
  const { product, process, registry, chance } = options;
  const sealed = async (relay: string): Promise<RelayPlane> => {
    const plane = await options.planeFor(relay);
    // Sealing is not simulated: what the device gets is as good as a tunnel.
    return {
      ...plane,
      install: async ({ lease, session }) => ({
        ...(await plane.install({ lease, session })),
        tunnel: TUNNEL,
      }),
    };
  };
  const policy = { name: 'p', leaseMs: { default: 60_000, max: 3_600_000 }, maxLeasesPerDevice: QUOTA };
  const door = {
    registry,
    owners: product.createOwners(registry, sealed, process),
    pools: new Map([['p', policy]]),
    limits: { ownerTimeoutMs: OWNER_TIMEOUT_MS, tokenGraceMs: 0 },
    log: silent,
    random: (octets: number) => chance.octets(octets),
    nowMs: process.nowMs,
    wallMs: () => 0,
  } as unknown as Door;
  const caller = (device: Device): Caller => ({
    principal: { device, thumbprint: 'k'.repeat(43), expiresAtMs: 1, scopes: [] },
    sealing: {} as Caller['sealing'],
    leases: new Map(),
    freeing: new Set(),
  });
  return {
    process,
    async lease(device, request, leaseMs) {
      const frame = { type: 'lease', id: 1, pool: 'p', kind: options.kind, leaseMs, request } as never;
      return ((await product.lease(frame, caller(device), door)) as { lease: Lease }).lease;
    },
    async extend(device, lease, leaseMs) {
      return (
        (await product.extend({ type: 'extend', id: 1, lease, leaseMs } as never, caller(device), door)) as {
          lease: Lease;
        }
      ).lease;
    },
    async free(device, lease) {
      await product.free({ type: 'free', id: 1, lease } as never, caller(device), door);
    },
  };
}

export function isTemporary(error: unknown): boolean {
  return (error as MooringError).temporary === true;
}
