import Type, { type Static } from 'typebox';
import { MooringError } from '../../protocol/errors.ts';
import { Device, EndReason, Lease } from '../../protocol/lease.ts';
import { anchorOf } from '../../registry/registry.ts';
import { searchLeases } from '../lease-search.ts';
import { operation } from '../operation.ts';
import type { AdminParts } from '../parts.ts';
import { LeaseId, limited, Name, Next, nothing, Tenant } from './fields.ts';

const LIMIT = 100;
/** The owner relay applies an end that it has not been told of within about a second. */
const APPLY_MS = 2_000;

const Path = Type.Union([
  Type.Object({
    address: Type.String(),
    port: Type.Integer({ minimum: 0, maximum: 65535 }),
  }),
  Type.Null(),
]);

const Shown = Type.Object(
  {
    lease: Lease,
    /** Where the device was last proven to be; null: nobody knows yet. */
    path: Path,
    /** The relay that carries it now. */
    relay: Type.Union([Name, Type.Null()]),
  },
  { additionalProperties: false },
);

const Revoked = Type.Object(
  {
    lease: Lease,
    reason: EndReason,
    stopped: Type.Boolean({
      description:
        'the relay that carried it has said that it forwards no more; false: it could not be asked and stops when it reads the end of the lease, at the latest when it is an owner again',
    }),
  },
  { additionalProperties: false },
);

export const leaseOperations = [
  operation({
    id: 'listLeases',
    method: 'GET',
    path: '/v1/leases',
    summary: 'Leases, all or those that fit; who has this address?',
    tag: 'leases',
    scope: 'mooring:read',
    perTenant: true,
    params: nothing,
    query: Type.Object(
      {
        tenant: Type.Optional(Tenant),
        device: Type.Optional({ ...Device.properties.id, description: 'its id; needs `tenant`' }),
        pool: Type.Optional(Name),
        anchor: Type.Optional(Name),
        address: Type.Optional(Type.String({ maxLength: 45, description: 'who has it?' })),
        port: Type.Optional(Type.Integer({ minimum: 0, maximum: 65535, description: 'of `address`' })),
        spi: Type.Optional(Type.Integer({ minimum: 0, maximum: 0xffffffff, description: 'of `address`' })),
        state: Type.Optional(Lease.properties.state),
        after: Type.Optional(
          Type.String({
            pattern: '^[a-z0-9-]{1,32}(\\.[A-Za-z0-9_-]{22})?$',
            description: '`next` of the answer before',
          }),
        ),
        limit: limited(500, LIMIT),
      },
      { additionalProperties: false },
    ),
    answer: Type.Object({ leases: Type.Array(Lease), next: Next }, { additionalProperties: false }),
    async run({ query, operator, parts }) {
      const { device, after, limit = LIMIT, ...filter } = query;
      const tenant = operator.tenant ?? filter.tenant;
      if (operator.tenant !== null && filter.tenant !== undefined && filter.tenant !== operator.tenant) {
        return { leases: [], next: null };
      }
      if (device !== undefined && tenant === undefined) {
        throw new MooringError(
          'ERR_MOORING_BAD_INPUT',
          'tenant is missing; a device is known by its tenant and its id: name both',
          { rsip: 205, data: { field: 'tenant' } },
        );
      }
      const { leases, next } = await searchLeases(
        parts,
        {
          ...filter,
          ...(tenant === undefined ? {} : { tenant }),
          ...(device === undefined || tenant === undefined ? {} : { device: { tenant, id: device } }),
        },
        after,
        limit,
      );
      return { leases: [...leases], next };
    },
  }),
  operation({
    id: 'showLease',
    method: 'GET',
    path: '/v1/leases/{lease}',
    summary: 'One lease, who carries it, and where its device was last',
    tag: 'leases',
    scope: 'mooring:read',
    perTenant: true,
    params: Type.Object({ lease: LeaseId }, { additionalProperties: false }),
    query: nothing,
    answer: Shown,
    async run({ params, operator, parts }) {
      const { leases, hints, owner } = await snapshotOf(parts, params.lease);
      const lease = leases.find(
        ({ id, remainingMs, device }) =>
          id === params.lease && remainingMs > 0 && (operator.tenant ?? device.tenant) === device.tenant,
      );
      if (lease === undefined) throw noLease(params.lease);
      const hint = hints.find(({ session }) => session === lease.session);
      return {
        lease,
        path: hint === undefined ? null : { address: hint.address, port: hint.port },
        relay: owner !== null && owner.remainingMs > 0 ? owner.relay : null,
      };
    },
  }),
  operation({
    id: 'revokeLease',
    method: 'DELETE',
    path: '/v1/leases/{lease}',
    summary: 'End a lease against its device’s will; said again within an hour it answers the same',
    tag: 'leases',
    scope: 'mooring:leases',
    perTenant: true,
    params: Type.Object({ lease: LeaseId }, { additionalProperties: false }),
    query: nothing,
    answer: Revoked,
    async run({ params, operator, parts }): Promise<Static<typeof Revoked>> {
      const { tenant } = operator;
      const event = await parts.registry
        .revoke({ leaseId: params.lease, ...(tenant === null ? {} : { tenant }) })
        .catch((error: unknown) => {
          const code = error instanceof MooringError ? error.code : '';
          if (code === 'ERR_MOORING_BAD_BIND' || code === 'ERR_MOORING_UNKNOWN_ANCHOR')
            throw noLease(params.lease);
          throw error;
        });
      const { lease, reason } = event;
      return { lease, reason, stopped: await isStopped(parts, lease.anchor, event) };
    },
  }),
];

async function snapshotOf({ registry }: AdminParts, lease: string) {
  const anchor = anchorOf(lease);
  if ((await registry.anchor(anchor)) === null) throw noLease(lease);
  return registry.snapshot(anchor);
}

/** Asks the owner to read the stream now. Whoever becomes owner later reads the lease no more. */
async function isStopped(
  { registry, planeFor, log }: AdminParts,
  anchor: string,
  event: Parameters<Awaited<ReturnType<AdminParts['planeFor']>>['apply']>[0]['event'],
): Promise<boolean> {
  const asked = (async () => {
    const owner = await registry.owner(anchor);
    if (owner === null) return true;
    await (await planeFor(owner.relay)).apply({ anchor, event });
    return true;
  })();
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`no answer within ${APPLY_MS} ms`)), APPLY_MS);
  });
  try {
    return await Promise.race([asked, late]);
  } catch (error) {
    log.warn({ anchor, error: String(error) }, 'the owner was not told of a revocation; it will read of it');
    return false;
  } finally {
    clearTimeout(timer);
  }
}

function noLease(lease: string): MooringError {
  return new MooringError(
    'ERR_MOORING_NO_LEASE',
    `lease ${lease}: there is none of this id; list leases to see what there is`,
    { rsip: 306, data: { lease } },
  );
}
