import Type from 'typebox';
import { Device, Lease } from '../../protocol/lease.ts';

/** Names and numbers that several operations share. */
export const Name = Type.String({ pattern: '^[a-z0-9-]{1,32}$' });
export const LeaseId = Lease.properties.id;
export const Epoch = Type.String({
  pattern: '^[0-9]+$',
  description: 'of an anchor: rises with every owner',
});
export const Revision = Type.String({ description: 'quote it in If-Match to change what was read' });
export const Tenant = Device.properties.tenant;
/** Where the next page begins. */
export const Next = Type.Union([Type.String(), Type.Null()], {
  description: 'ask again with this as `after`; null: there is no more',
});
export const nothing = Type.Object({}, { additionalProperties: false });

/** How many of a list in one answer. */
export function limited(most: number, fallback: number) {
  return Type.Optional(
    Type.Integer({
      minimum: 1,
      maximum: most,
      description: `in one answer; ${fallback} when nothing is said`,
    }),
  );
}

/** A list in the order of its names, from behind `after`. */
export function pageOf<T>(
  all: readonly T[],
  nameOf: (one: T) => string,
  after: string | undefined,
  limit: number,
): { readonly page: readonly T[]; readonly next: string | null } {
  const rest = [...all]
    .sort((left, right) => (nameOf(left) < nameOf(right) ? -1 : 1))
    .filter((one) => after === undefined || nameOf(one) > after);
  const page = rest.slice(0, limit);
  const last = page.at(-1);
  return { page, next: rest.length > limit && last !== undefined ? nameOf(last) : null };
}
