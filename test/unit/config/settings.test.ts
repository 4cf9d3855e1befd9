import { describe, expect, it } from 'vitest';
import { loadSettings, parseSettings } from '../../../src/config/load.ts';
import { parsePool } from '../../../src/config/pools.ts';

const relay = 'relay: {id: r1, interface: pub0}';
const pool = (anchors: string, more = '') =>
  `${relay}\npools: [{name: p, sharing: whole, ${more} anchors: [${anchors}]}]`;
const anchor = (id: string, endpoint: string, prefix: string) =>
  `{id: ${id}, home: r1, endpoints: ['${endpoint}'], prefixes: ['${prefix}']}`;

describe('a configuration', () => {
  it('gets every default that its schema promises', () => {
    const settings = parseSettings(pool(anchor('a1', '198.51.100.9', '198.51.100.16/28')));
    expect(settings.dataDir).toBe('/var/lib/mooring');
    expect(settings.relay).toMatchObject({
      tun: 'mooring0',
      port: 4556,
      ownershipMs: 10_000,
      announce: 'neighbour',
    });
    expect(settings.pools[0]).toMatchObject({ portBlock: 1024, spiBlock: 256, coolingMs: 120_000 });
    expect(settings.pools[0]?.leaseMs).toEqual({ default: 3_600_000, max: 86_400_000 });
  });

  // Each row: what is wrong, the text, and the words that name field, value and remedy.
  const wrong: [string, string, RegExp][] = [
    ['has no role', '{}', /relay is missing; configure `relay`, `signalling` or `admin`/],
    ['lacks a required setting', 'relay: {id: r1}', /relay\.interface is missing; add it/],
    ['has an unknown setting', `${relay}\ncolour: red`, /colour is unknown; remove it, or correct its name/],
    ['has an unknown inner setting', 'relay: {id: r1, interface: pub0, speed: 9}', /relay\.speed is unknown/],
    [
      'has a value of another type',
      'relay: {id: r1, interface: pub0, port: many}',
      /relay\.port is "many"; it must be integer/,
    ],
    [
      'has a value out of range',
      'relay: {id: r1, interface: pub0, port: 70000}',
      /relay\.port is 70000; it must be <= 65535/,
    ],
    [
      'has a word that is not one of the choices',
      `${relay}\nlogLevel: loud`,
      /logLevel is "loud"; use one of "trace", "debug"/,
    ],
    ['is not YAML', 'relay: [', /is not YAML: .*mend the line/],
    ['uses YAML references to grow', 'a: &a [1]\nb: [*a, *a]', /is not YAML/],
    [
      'has a port block that is no power of two',
      pool(anchor('a1', '192.0.2.1', '198.51.100.0/28'), 'portBlock: 1000,'),
      /pools\.0\.portBlock is 1000; use a power of two/,
    ],
    [
      'lets port blocks double to what is no power of two',
      pool(anchor('a1', '192.0.2.1', '198.51.100.0/28'), 'maxPortBlock: 3000,'),
      /pools\.0\.maxPortBlock is 3000; use a power of two/,
    ],
    [
      'lets port blocks double to less than they have',
      pool(anchor('a1', '192.0.2.1', '198.51.100.0/28'), 'maxPortBlock: 512,'),
      /pools\.0\.maxPortBlock is 512; use at least portBlock \(1024\)/,
    ],
    [
      'leases private addresses to the public',
      pool(anchor('a1', '192.0.2.1', '10.1.0.0/28')),
      /prefixes\.0 is 10\.1\.0\.0\/28; it is private address space: set `realm: private`/,
    ],
    [
      'leases addresses that are every host’s own',
      pool(anchor('a1', '192.0.2.1', '127.0.0.0/28'), 'realm: private,'),
      /prefixes\.0 is 127\.0\.0\.0\/28; name addresses/,
    ],
    [
      'has a least lease time above the longest',
      pool(anchor('a1', '192.0.2.1', '198.51.100.0/28'), 'leaseMs: {default: 1000, max: 2000, min: 3000},'),
      /leaseMs\.min is 3000; use at most leaseMs\.max \(2000\)/,
    ],
    [
      'leases its tunnel endpoint',
      pool(anchor('a1', '198.51.100.3', '198.51.100.0/28')),
      /endpoints\.0 is 198\.51\.100\.3; a tunnel endpoint is never leased/,
    ],
    [
      'gives two anchors one id',
      pool(
        `${anchor('a1', '192.0.2.1', '198.51.100.0/28')}, ${anchor('a1', '192.0.2.2', '198.51.101.0/28')}`,
      ),
      /anchors\.1\.id is a1; give every anchor an id of its own/,
    ],
    [
      'gives two anchors one address',
      pool(
        `${anchor('a1', '192.0.2.1', '198.51.100.0/28')}, ${anchor('a2', '192.0.2.2', '198.51.100.4/32')}`,
      ),
      /prefixes\.0 is 198\.51\.100\.4\/32; it overlaps pools\.0\.anchors\.0\.prefixes\.0/,
    ],
    [
      'gives two anchors one endpoint',
      pool(
        `${anchor('a1', '192.0.2.1', '198.51.100.0/28')}, ${anchor('a2', '192.0.2.1', '198.51.101.0/28')}`,
      ),
      /endpoints\.0 is 192\.0\.2\.1; give every anchor a tunnel endpoint of its own/,
    ],
    [
      'has host bits in a prefix',
      pool(anchor('a1', '192.0.2.1', '198.51.100.1/28')),
      /mooring\.yaml: pools\.0\.anchors\.0\.prefixes\.0 is 198\.51\.100\.1\/28; clear the bits behind the prefix length/,
    ],
    [
      'has two lengths in a prefix',
      pool(anchor('a1', '192.0.2.1', '198.51.100.0/28/32')),
      /use a prefix length from 0 to 32/,
    ],
    ...['0.0.0.0', '127.0.0.1', '169.254.1.1', '239.0.0.5', '::1', 'fe80::1', 'ff02::1'].map(
      (address): [string, string, RegExp] => [
        `has the tunnel endpoint ${address}`,
        pool(anchor('a1', address, '198.51.100.0/28')),
        /endpoints\.0 is .*; name an address that a host may have/,
      ],
    ),
    [
      'has two endpoints of one family',
      pool(`{id: a1, home: r1, endpoints: [192.0.2.1, 192.0.2.2], prefixes: ['198.51.100.0/28']}`),
      /endpoints\.1 is 192\.0\.2\.2; name one address of each family at most/,
    ],
    [
      'gives two anchors one endpoint in two spellings',
      pool(
        `${anchor('a1', '2001:db8::1', '198.51.100.0/28')}, ${anchor('a2', '2001:DB8:0::1', '198.51.101.0/28')}`,
      ),
      /give every anchor a tunnel endpoint of its own/,
    ],
    [
      'has a prefix that is none',
      pool(anchor('a1', '192.0.2.1', '198.51.100.0/40')),
      /use a prefix length from 0 to 32/,
    ],
    [
      'has an address in an odd spelling',
      pool(anchor('a1', '192.0.2.1', '0300.1/28')),
      /write an IPv4 address as four decimal numbers/,
    ],
    [
      'has a default lease longer than the longest',
      pool(anchor('a1', '192.0.2.1', '198.51.100.0/28'), 'leaseMs: {default: 5000, max: 4000},'),
      /leaseMs\.default is 5000; use at most leaseMs\.max \(4000\)/,
    ],
    [
      'cools for less than two minutes',
      pool(anchor('a1', '192.0.2.1', '198.51.100.0/28'), 'coolingMs: 1000,'),
      /coolingMs is 1000/,
    ],
    ...['maxLeasesPerDevice: 1.0e21', 'maxLeasesPerTenant: 1.0e21'].map(
      (setting): [string, string, RegExp] => [
        `allows more leases than can be counted: ${setting}`,
        pool(anchor('a1', '192.0.2.1', '198.51.100.0/28'), `${setting},`),
        /maxLeasesPer\w+ is 1e\+21; it must be <= 1000000000/,
      ],
    ),
    ...[
      'coolingMs: 1.0e15',
      'spiCoolingMs: 1.0e15',
      'leaseMs: {default: 1.0e15}',
      'leaseMs: {max: 1.0e15}',
    ].map((setting): [string, string, RegExp] => [
      `has a time so long that instants would lose their milliseconds: ${setting}`,
      pool(anchor('a1', '192.0.2.1', '198.51.100.0/28'), `${setting},`),
      /Ms\S* is 1000000000000000; it must be <= 31622400000/,
    ]),
  ];
  it.each(wrong)('that %s is refused, naming field, value and remedy', (_what, text, words) => {
    expect(() => parseSettings(text, 'mooring.yaml')).toThrow(words);
  });

  it('that cannot be read names the file', () => {
    expect(() => loadSettings('/nonexistent/mooring.yaml')).toThrow(
      /\/nonexistent\/mooring\.yaml: cannot be read/,
    );
  });
});

describe('prefixes', () => {
  const alone = (prefixes: readonly string[]) =>
    parseSettings(
      JSON.stringify({
        relay: { id: 'r1', interface: 'pub0' },
        pools: [
          {
            name: 'p',
            sharing: 'whole',
            anchors: [{ id: 'a1', home: 'r1', endpoints: ['203.0.113.1'], prefixes }],
          },
        ],
      }),
    );

  it('that overlap are refused, whichever is named first, and no others', () => {
    let state = 4;
    const below = (most: number) => {
      state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
      return Math.floor((state / 2 ** 32) * most);
    };
    const found = { overlap: 0, none: 0 };
    for (let round = 0; round < 400; round += 1) {
      const ranges = Array.from({ length: 2 + below(5) }, () => {
        const bits = 24 + below(9);
        const size = 2 ** (32 - bits);
        const first = below(256 / size) * size;
        return { text: `192.0.2.${first}/${bits}`, first, last: first + size - 1 };
      });
      const meet = ranges.some((one, at) =>
        ranges.some((other, o) => o < at && one.first <= other.last && other.first <= one.last),
      );
      const declare = () => alone(ranges.map(({ text }) => text));
      if (meet) expect(declare).toThrow(/it overlaps pools\.0\.anchors\.0\.prefixes\.\d; an address belongs/);
      else expect(declare).not.toThrow();
      found[meet ? 'overlap' : 'none'] += 1;
    }
    expect(Math.min(...Object.values(found))).toBeGreaterThan(20);
  });

  it('are so many for an anchor that nothing which handles them takes long', () => {
    const singles = (count: number) =>
      Array.from({ length: count }, (_, at) => `198.51.${at >> 8}.${at & 255}/32`);
    expect(() => alone(singles(256))).not.toThrow();
    expect(() => alone(singles(257))).toThrow(/anchors\.0\.prefixes is .*more than 256 items/);
  });
});

it.each([
  ['the same id', ['203.0.113.2', '192.0.2.4/30'], 'pool.yaml: anchors.1.id is a1; give every'],
  [
    'an endpoint that the other leases',
    ['192.0.2.1', '192.0.2.4/30', 'a2'],
    'pool.yaml: anchors.1.endpoints.0 is 192.0.2.1; a tunnel endpoint is never leased: take it out of anchors.0.prefixes.0',
  ],
])('a pool alone in a file is told of by its own fields: two anchors with %s', (_, second, fault) => {
  const of = (endpoint: string, prefix: string, id = 'a1') => ({
    ...{ id, home: 'r1', endpoints: [endpoint], prefixes: [prefix] },
  });
  const [endpoint = '', prefix = '', id] = second;
  const anchors = [of('203.0.113.1', '192.0.2.0/30'), of(endpoint, prefix, id)];
  expect(() => parsePool({ name: 'p', sharing: 'whole', anchors }, 'pool.yaml')).toThrow(fault);
});
