import { Value } from 'typebox/value';
import { contains, parseAddress, parsePrefix } from '../protocol/address.ts';
import { checked } from '../protocol/checked.ts';
import { MooringError } from '../protocol/errors.ts';
import { Pool, type PoolSettings } from './schema.ts';
import { refuseSetting } from './settings-file.ts';

type Refuse = (field: string, value: string | number, remedy: string) => MooringError;
type Prefix = ReturnType<typeof parsePrefix>;

/** Address space that is nobody's to lease, and what is used in private networks alone. */
const NEVER_LEASED = [
  '0.0.0.0/8',
  '127.0.0.0/8',
  '169.254.0.0/16',
  '224.0.0.0/3',
  '::/127',
  'fe80::/10',
  'ff00::/8',
].map((text) => parsePrefix(text));
const PRIVATE = ['10.0.0.0/8', '172.16.0.0/12', '192.168.0.0/16', '100.64.0.0/10', 'fc00::/7'].map((text) =>
  parsePrefix(text),
);

/**
 * A pool as an operator writes it, in a file or in a request: checked, with its defaults filled in. Throws
 * ERR_MOORING_CONFIG naming `source`, field, value and remedy.
 */
export function parsePool(value: unknown, source = 'pool'): PoolSettings {
  const refuse: Refuse = (field, found, remedy) => refuseSetting(source, field, found, remedy);
  const check = checked(Pool, ({ field, value: found, remedy }) => refuse(field, found, remedy));
  const pool = check(Value.Default(Pool, structuredClone(value)));
  const alone = (text: string) => text.replaceAll('pools.0.', '');
  checkPools([pool], (field, found, remedy) => refuse(alone(field), found, alone(remedy)));
  return pool;
}

/** What a schema cannot say of pools; `refuse` gets the field from `pools` on. */
export function checkPools(pools: readonly PoolSettings[], refuse: Refuse): void {
  const names = new Set<string>();
  const anchors = new Set<string>();
  const served: Served[] = [];
  const endpoints: { field: string; text: string; bytes: Uint8Array }[] = [];
  const read = <T>(parse: (text: string, field: string) => T, text: string, field: string): T => {
    try {
      return parse(text, field);
    } catch (error) {
      if (error instanceof MooringError) throw refuse(field, text, String(error.data.remedy));
      throw error;
    }
  };
  pools.forEach((pool, p) => {
    if (names.has(pool.name)) throw refuse(`pools.${p}.name`, pool.name, 'give every pool a name of its own');
    names.add(pool.name);
    checkSizes(pool, `pools.${p}`, refuse);
    pool.anchors.forEach((anchor, a) => {
      const field = `pools.${p}.anchors.${a}`;
      if (anchors.has(anchor.id))
        throw refuse(`${field}.id`, anchor.id, 'give every anchor an id of its own');
      anchors.add(anchor.id);
      anchor.endpoints.forEach((text, i) => {
        const named = `${field}.endpoints.${i}`;
        const bytes = read(parseAddress, text, named);
        if (NEVER_LEASED.some((space) => contains(space, bytes)))
          throw refuse(named, text, 'name an address that a host may have');
        if (anchor.endpoints.findIndex((other) => parseAddress(other).length === bytes.length) < i)
          throw refuse(named, text, 'name one address of each family at most');
        endpoints.push({ field: named, text, bytes });
      });
      anchor.prefixes.forEach((text, i) => {
        const prefix = read(parsePrefix, text, `${field}.prefixes.${i}`);
        checkRealm(prefix, pool.realm ?? 'public', (remedy) =>
          refuse(`${field}.prefixes.${i}`, text, remedy),
        );
        served.push({ field: `${field}.prefixes.${i}`, text, prefix });
      });
    });
  });
  checkOverlaps(served, refuse);
  for (const endpoint of endpoints) {
    const clash = served.find((other) => contains(other.prefix, endpoint.bytes));
    if (clash !== undefined) {
      throw refuse(
        endpoint.field,
        endpoint.text,
        `a tunnel endpoint is never leased: take it out of ${clash.field}`,
      );
    }
    if (endpoints.some((other) => other !== endpoint && isSame(other.bytes, endpoint.bytes))) {
      throw refuse(endpoint.field, endpoint.text, 'give every anchor a tunnel endpoint of its own');
    }
  }
}

interface Served {
  readonly field: string;
  readonly text: string;
  readonly prefix: Prefix;
}

/** Two prefixes have nothing in common, or one has all of the other: in their order one after the other shows it. */
function checkOverlaps(served: readonly Served[], refuse: Refuse): void {
  const inOrder = served.toSorted(
    ({ prefix: a }, { prefix: b }) =>
      a.bytes.length - b.bytes.length || Buffer.compare(a.bytes, b.bytes) || a.bits - b.bits,
  );
  let outer: Served | undefined;
  for (const one of inOrder) {
    if (outer === undefined || !contains(outer.prefix, one.prefix.bytes)) {
      outer = one;
      continue;
    }
    const [first, later] = served.indexOf(outer) < served.indexOf(one) ? [outer, one] : [one, outer];
    throw refuse(later.field, later.text, `it overlaps ${first.field}; an address belongs to one anchor`);
  }
}

function checkSizes(pool: PoolSettings, field: string, refuse: Refuse): void {
  const { portBlock, maxPortBlock = portBlock, spiBlock } = pool;
  for (const [name, value] of Object.entries({ portBlock, maxPortBlock, spiBlock })) {
    if ((value & (value - 1)) !== 0) {
      throw refuse(`${field}.${name}`, value, 'use a power of two');
    }
  }
  if (maxPortBlock < portBlock) {
    throw refuse(`${field}.maxPortBlock`, maxPortBlock, `use at least portBlock (${portBlock})`);
  }
  const { leaseMs } = pool;
  for (const name of ['default', 'min'] as const) {
    const value = leaseMs[name];
    if (value !== undefined && value > leaseMs.max) {
      throw refuse(`${field}.leaseMs.${name}`, value, `use at most leaseMs.max (${leaseMs.max})`);
    }
  }
}

function checkRealm(
  prefix: Prefix,
  realm: 'public' | 'private',
  refuse: (remedy: string) => MooringError,
): void {
  const inside = (spaces: readonly Prefix[]) => spaces.some((space) => overlap(space, prefix));
  if (inside(NEVER_LEASED)) throw refuse('name addresses that a host may have');
  if (realm === 'public' && inside(PRIVATE)) {
    throw refuse('it is private address space: set `realm: private` for the pool, or name public addresses');
  }
}

function overlap(a: Prefix, b: Prefix): boolean {
  return contains(a, b.bytes) || contains(b, a.bytes);
}

function isSame(a: Uint8Array, b: Uint8Array): boolean {
  return contains({ bytes: a, bits: a.length * 8 }, b);
}
