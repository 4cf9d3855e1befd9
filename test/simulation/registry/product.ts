import type * as ownership from '../../../src/ownership/ownership.ts';
import type * as pair from '../../../src/ownership/pair.ts';
import type * as standby from '../../../src/ownership/standby.ts';
import type * as errors from '../../../src/protocol/errors.ts';
import type * as connection from '../../../src/registry/connection.ts';
import type * as hold from '../../../src/registry/hold.ts';
import type * as store from '../../../src/registry/store.ts';
import type * as carrying from '../../../src/relay/carrying.ts';
import type * as node from '../../../src/relay/node.ts';
import type * as owners from '../../../src/signalling/owners.ts';
import type * as extend from '../../../src/signalling/requests/extend.ts';
import type * as free from '../../../src/signalling/requests/free.ts';
import type * as lease from '../../../src/signalling/requests/lease.ts';

/** The modules that the actors are made of, in the order in which they are imported. */
export const MODULES = [
  'src/ownership/ownership.ts',
  'src/ownership/pair.ts',
  'src/ownership/standby.ts',
  'src/protocol/errors.ts',
  'src/registry/connection.ts',
  'src/registry/hold.ts',
  'src/registry/store.ts',
  'src/relay/carrying.ts',
  'src/relay/node.ts',
  'src/signalling/owners.ts',
  'src/signalling/requests/extend.ts',
  'src/signalling/requests/free.ts',
  'src/signalling/requests/lease.ts',
] as const;

/** The product's own code that is simulated: as it is, or a copy with a fault planted. */
export type Product = typeof ownership &
  typeof pair &
  typeof standby &
  typeof errors &
  typeof connection &
  typeof hold &
  typeof store &
  typeof carrying &
  typeof node &
  typeof owners &
  typeof extend &
  typeof free &
  typeof lease;

export function productOf(modules: readonly Record<string, unknown>[]): Product {
  return Object.assign({}, ...modules) as Product;
}

export async function realProduct(): Promise<Product> {
  const modules: Record<string, unknown>[] = await Promise.all([
    import('../../../src/ownership/ownership.ts'),
    import('../../../src/ownership/pair.ts'),
    import('../../../src/ownership/standby.ts'),
    import('../../../src/protocol/errors.ts'),
    import('../../../src/registry/connection.ts'),
    import('../../../src/registry/hold.ts'),
    import('../../../src/registry/store.ts'),
    import('../../../src/relay/carrying.ts'),
    import('../../../src/relay/node.ts'),
    import('../../../src/signalling/owners.ts'),
    import('../../../src/signalling/requests/extend.ts'),
    import('../../../src/signalling/requests/free.ts'),
    import('../../../src/signalling/requests/lease.ts'),
  ]);
  return productOf(modules);
}
