import { describe, expect, test } from 'vitest';
import { parseLaptopConfig } from '../../../clients/laptop/config.ts';

const GOOD = {
  signalling: { url: 'wss://door.example/v1' },
  issuer: {
    tokenEndpoint: 'https://issuer.example/token',
    clientId: 'laptop-1',
    privateKeyFile: '/etc/mooring/client.pem',
    audience: 'https://door.example',
  },
  pool: 'whole',
  kind: 'rsa-ip',
};

function parse(change: (config: Record<string, unknown>) => void): unknown {
  const config = structuredClone(GOOD) as Record<string, unknown>;
  change(config);
  return parseLaptopConfig(JSON.stringify(config), 'laptop.yaml');
}

describe("the laptop's configuration", () => {
  test('JSON and YAML give the same settings, defaults filled in', () => {
    const fromJson = parseLaptopConfig(JSON.stringify(GOOD));
    const yaml = [
      'signalling: { url: wss://door.example/v1 }',
      'issuer:',
      '  tokenEndpoint: https://issuer.example/token',
      '  clientId: laptop-1',
      '  privateKeyFile: /etc/mooring/client.pem',
      '  audience: https://door.example',
      'pool: whole',
      'kind: rsa-ip',
    ].join('\n');
    expect(parseLaptopConfig(yaml)).toEqual(fromJson);
    expect(fromJson).toMatchObject({ interfaces: ['*'], tun: 'mooring', table: 4556, routes: [] });
  });

  test.each<[string, (config: Record<string, unknown>) => void, RegExp]>([
    ['a missing pool', (c) => delete c.pool, /laptop\.yaml: pool is missing; add it/],
    [
      'an unknown field',
      (c) => {
        c.poool = 'x';
      },
      /poool is unknown; remove it/,
    ],
    [
      'another kind',
      (c) => {
        c.kind = 'nat';
      },
      /kind is "nat"; use one of "rsa-ip", "rsap-ip", "rsipsec"/,
    ],
    [
      'a door that is none',
      (c) => {
        c.signalling = { url: 'door.example' };
      },
      /signalling\.url is "door\.example"/,
    ],
    [
      'a route with host bits',
      (c) => {
        c.routes = ['10.0.0.1/8'];
      },
      /routes\.0 is "10\.0\.0\.1\/8"; use address\/bits/,
    ],
    [
      'an MTU below IPv6’s',
      (c) => {
        c.mtu = 1000;
      },
      /mtu is 1000/,
    ],
    [
      "the kernel's own table",
      (c) => {
        c.table = 254;
      },
      /table is 254; use a table/,
    ],
    [
      'routes in the thin form',
      (c) => {
        c.behind = 'lan0';
        c.routes = ['0.0.0.0/0'];
      },
      /routes is .*leave it out with `behind`/,
    ],
    [
      'a name too long for an interface',
      (c) => {
        c.tun = 'a-very-long-name';
      },
      /tun is "a-very-long-name"/,
    ],
  ])('%s is refused by field, value and remedy', (_what, change, message) => {
    expect(() => parse(change)).toThrow(message);
  });

  test('text that is not YAML is refused with the place', () => {
    expect(() => parseLaptopConfig('pool: [', 'laptop.yaml')).toThrow(/laptop\.yaml: is not YAML: .*line/);
  });
});
