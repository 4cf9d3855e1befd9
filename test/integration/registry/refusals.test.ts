import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { type MooringError, RSIP_ERRORS, type RsipErrorNumber } from '../../../src/protocol/errors.ts';
import type { Lease } from '../../../src/protocol/lease.ts';
import { commandConnection } from '../../../src/registry/connection.ts';
import { hex128 } from '../../../src/registry/leases.ts';
import type { AnchorDeclaration, GrantRequest, Registry } from '../../../src/registry/registry.ts';
import { createStore } from '../../../src/registry/store.ts';
import { requireAdmission } from '../../../src/signalling/admission.ts';
import { declaredRemote, localWish } from '../../../src/signalling/requests/lease.ts';
import { type RealRedis, realRedis, silent } from './real-redis.ts';

let server: RealRedis;
let registry: Registry;
beforeAll(async () => {
  server = await realRedis();
});
afterAll(() => server.stop());
beforeEach(async () => {
  await server.client().flushall();
  registry = createStore(commandConnection(server.client()), silent, async () => undefined);
});

const device = (id: string) => ({ tenant: 't', id });
const serve = async (more: Partial<AnchorDeclaration> = {}) => {
  const id = more.id ?? 'a1';
  const shape = { id, pool: 'p', sharing: 'shared', portBlock: 8192, spiBlock: 16, home: 'r1' } as const;
  await registry.declareAnchor({ ...shape, prefixes: ['192.0.2.0/31'], endpoints: ['203.0.113.1'], ...more });
  await registry.claim(id, 'r1', '00'.repeat(8), 600_000);
};
const grant = async (id: string, more: Partial<GrantRequest> = {}): Promise<Lease> => {
  const wish = { pool: 'p', device: device(id), thumbprint: 'k'.repeat(43), kind: 'rsipsec' } as const;
  const { lease } = await registry.grant({
    ...wish,
    leaseMs: 60_000,
    requestId: hex128(),
    quota: 9,
    ...more,
  });
  return registry.activate(lease.anchor, lease.id, 1n);
};
const whole = () => serve({ sharing: 'whole', prefixes: ['192.0.2.0/32'] });
const policy = { name: 'p', leaseMs: { default: 1, max: 1 }, maxLeasesPerDevice: 1 };
const stranger = {
  device: device('s'),
  thumbprint: '',
  expiresAtMs: 0,
  scopes: [],
  claims: { plan: 'basic', groups: ['field'] },
};

/** What provokes each error, by its number (RFC 3103 appendix A, RFC 3104 appendix B). */
const CAUSES: Partial<Record<RsipErrorNumber, () => Promise<unknown> | unknown>> = {
  103: () => declaredRemote(undefined, { ...policy, remotePolicy: 'macro' }),
  104: () => registry.claim('undeclared', 'r1', '00'.repeat(8), 1000),
  203: () => localWish({ kind: 'rsa-ip', local: { port: 4096 } }),
  205: () => grant('d', { local: { address: 'not an address' } }),
  208: async () => {
    await whole();
    return grant('d', { kind: 'rsap-ip' });
  },
  302: async () => {
    await registry.register({ device: device('d'), leaseMs: 60_000 });
    return registry.register({ device: device('d'), leaseMs: 60_000 });
  },
  304: async () => {
    await serve();
    await grant('d', { quota: 1 });
    return grant('d', { quota: 1 });
  },
  306: async () => {
    await serve();
    const { id } = await grant('d');
    return registry.free({ leaseId: id, device: device('thief'), requestId: hex128() });
  },
  308: async () => {
    await whole();
    await grant('d', { kind: 'rsa-ip' });
    return grant('e', { kind: 'rsa-ip' });
  },
  309: async () => {
    await serve({ maxPortBlock: 16_384 });
    const { id } = await grant('d', { local: { address: '192.0.2.0', port: 8192 } });
    const more = { ports: 16_384, requestId: hex128() };
    await expect(
      registry.extend({ leaseId: id, device: device('d'), leaseMs: 60_000, ...more }),
    ).rejects.toMatchObject({ rsip: 309 });
    await server.client().flushall();
    await serve({ prefixes: ['192.0.2.0/32'], portBlock: 32_768 });
    await grant('d');
    return grant('e');
  },
  310: async () => {
    await whole();
    await grant('d', { kind: 'rsa-ip' });
    return grant('e', { kind: 'rsa-ip', local: { address: '192.0.2.0' } });
  },
  311: async () => {
    await serve();
    const { address, ports } = await grant('d');
    return grant('e', { local: { address, port: ports!.first + 5 } });
  },
  312: async () => {
    await serve();
    return grant('e', { local: { address: '192.0.2.2' } });
  },
  313: async () => {
    await serve();
    return grant('e', { local: { address: '192.0.2.1', port: 1023 } });
  },
  314: async () => {
    await serve();
    return grant('e', { remote: { address: '2001:db8::1', port: null } });
  },
  401: () =>
    requireAdmission(stranger, { ...policy, mayUseIpsec: [{ claim: 'plan', values: ['full'] }] }, 'rsipsec'),
  402: async () => {
    await serve();
    return grant('e', { local: { spi: 255 } });
  },
  403: async () => {
    await serve();
    const { spis } = await grant('d');
    return grant('e', { local: { spi: spis!.first + 3 } });
  },
};

/** Why neither the registry nor its policy can cause the others. */
const ELSEWHERE: Partial<Record<RsipErrorNumber, string>> = {
  101: 'every failure has a better name',
  102: 'of the transport',
  105: 'of RSIP over UDP',
  106: 'of RSIP over its own port',
  201: 'of the parser of messages',
  202: 'of the parser of messages',
  204: 'of the parser of messages',
  206: 'of the parser of messages',
  207: 'of the parser of messages',
  301: 'a hello registers; before it the door says so',
  303: 'de-registering twice is no error (301 serves, where one is asked for)',
  305: 'who a device is, is proven and not claimed by a number',
  307: 'there is one kind of tunnel',
  315: 'of the data path: a port that was not declared',
};

describe('an error of the registry and its policy', () => {
  test.each(Object.entries(CAUSES))('%s is caused and named', async (number, cause) => {
    const rsip = Number(number) as RsipErrorNumber;
    const error = await Promise.resolve()
      .then(cause)
      .then(
        () => undefined,
        (thrown: MooringError) => thrown,
      );
    expect(error?.code).toMatch(/^ERR_MOORING_/);
    expect(error?.rsip).toBe(rsip);
  });

  test('is each that there is, or is another part’s', () => {
    const known = [...Object.keys(CAUSES), ...Object.keys(ELSEWHERE)].sort();
    expect(known).toEqual(Object.keys(RSIP_ERRORS).sort());
  });
});

describe('R26, R54: a device that asks for resources by name', () => {
  test('gets those that it had, also while they rest', async () => {
    await serve();
    const first = await grant('d');
    const second = await grant('d');
    for (const { id } of [first, second])
      await registry.free({ leaseId: id, device: device('d'), requestId: hex128() });
    const { address, ports, spis } = first;
    const local = { address, port: ports!.first, spi: spis!.first };
    expect(await grant('d', { local })).toMatchObject({ address, ports, spis });
    expect(await grant('d')).toMatchObject({ ports: second.ports, spis: second.spis });
  });

  test.each([
    ['address', (of: Lease) => ({ address: of.address })],
    ['port', (of: Lease) => ({ port: of.ports!.first + 1 })],
    ['SPI', (of: Lease) => ({ spi: of.spis!.first + 1 })],
  ])('gets a fresh one by its %s alone', async (_, wish) => {
    await serve({ id: 'like' });
    await serve();
    // Somewhere in the middle of what was never leased.
    const shown = await grant('first', { anchor: 'a1', local: { address: '192.0.2.1', port: 40_000 } });
    await registry.free({ leaseId: shown.id, device: device('first'), requestId: hex128() });
    const again = await grant('first', { anchor: 'a1', local: wish(shown) });
    expect(again.address).toBe('port' in wish(shown) ? again.address : shown.address);
    expect(again.ports!.count).toBe(8192);
  });

  test('leaves to others everything that it did not take', async () => {
    await serve();
    const wished = await grant('d', { local: { address: '192.0.2.1', port: 65_535 } });
    expect(wished.ports).toEqual({ first: 57_344, count: 8192 });
    const others = await Promise.all(Array.from({ length: 13 }, (_, at) => grant(`e${at}`)));
    const tuples = [wished, ...others].map(({ address, ports }) => `${address} ${ports!.first}`);
    expect(new Set(tuples).size).toBe(14);
    await expect(grant('f')).rejects.toMatchObject({ rsip: 309 });
  });

  test('may not ask for an SPI of another address', async () => {
    await serve();
    const { address, spis, id } = await grant('d');
    await registry.free({ leaseId: id, device: device('d'), requestId: hex128() });
    const other = address === '192.0.2.0' ? '192.0.2.1' : '192.0.2.0';
    await expect(grant('d', { local: { address: other, spi: spis!.first } })).rejects.toMatchObject({
      rsip: 402,
    });
  });
});

describe('R15, R17: a registration', () => {
  test('has a client id that no other one has, and lasts as long as the longest lease', async () => {
    await serve();
    const one = await registry.register({ device: device('d'), leaseMs: 1 });
    const other = await registry.register({ device: device('e'), leaseMs: 60_000 });
    expect(other.clientId).not.toBe(one.clientId);
    const lease = await grant('d', { leaseMs: 50_000 });
    const bound = await registry.registration(device('d'));
    expect(bound?.clientId).toBe(one.clientId);
    expect(bound!.remainingMs).toBeGreaterThan(45_000);
    const request = { leaseId: lease.id, device: device('d'), leaseMs: 90_000, requestId: hex128() };
    await registry.extend(request);
    expect((await registry.registration(device('d')))!.remainingMs).toBeGreaterThan(85_000);
  });

  test('ends when it is told to', async () => {
    await registry.register({ device: device('d'), leaseMs: 60_000 });
    expect(await registry.deregister(device('d'))).toBe(true);
    expect(await registry.deregister(device('d'))).toBe(false);
    expect(await registry.registration(device('d'))).toBeNull();
  });
});

describe('who may lease', () => {
  const rules = [{ claim: 'groups', values: ['field', 'office'] }];
  test('is who has one of the values in each claim asked for', () => {
    expect(() => requireAdmission(stranger, { ...policy, mayLease: rules }, 'rsa-ip')).not.toThrow();
    for (const claim of ['plan', 'missing', 'constructor', '__proto__']) {
      const mayLease = [...rules, { claim, values: ['full'] }];
      expect(() => requireAdmission(stranger, { ...policy, mayLease }, 'rsa-ip')).toThrow(
        expect.objectContaining({ code: 'ERR_MOORING_POOL_DENIED', rsip: 312 }),
      );
    }
  });
});
