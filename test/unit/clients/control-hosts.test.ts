import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { ControlHosts, type ControlHostsOptions } from '../../../clients/laptop/control-hosts.ts';
import { StateDir } from '../../../clients/laptop/state-dir.ts';

const DOOR = 'wss://door.example/v1';
const ISSUER = 'https://issuer.example:8443/token';

describe('where signalling and issuer are', () => {
  let dir: string;
  let says: Record<string, string[] | 'nothing' | 'silence'>;
  let changes: number;

  beforeEach(() => {
    dir = mkdtempSync(join(tmpdir(), 'mooring-hosts-'));
    says = { 'door.example': ['192.0.2.1'], 'issuer.example': ['192.0.2.2', '2001:db8::2'] };
    changes = 0;
  });
  afterEach(() => rmSync(dir, { recursive: true, force: true }));

  const hosts = (options: Partial<ControlHostsOptions> = {}) =>
    new ControlHosts({
      urls: [DOOR, ISSUER],
      state: new StateDir(dir),
      onChange: () => {
        changes += 1;
      },
      patienceMs: 1,
      resolve(host) {
        const answer = says[host] ?? 'nothing';
        if (answer === 'silence') return new Promise(() => {});
        return answer === 'nothing'
          ? Promise.reject(Object.assign(new Error(`${host} is unknown`), { code: 'ENOTFOUND' }))
          : Promise.resolve(answer);
      },
      ...options,
    });

  const looked = (of: ControlHosts, host: string, all = true, family?: 4 | 6) =>
    new Promise((resolve) =>
      of.lookup(host, { all, ...(family === undefined ? {} : { family }) }, (error, address) =>
        resolve(error === null ? address : error.code),
      ),
    );

  test('are also reached through a translator, which is not remembered', async () => {
    const own = hosts({ elsewhere: (address) => (address.includes(':') ? [] : [`64:ff9b::${address}`]) });
    expect(await looked(own, 'door.example')).toEqual([
      { address: '192.0.2.1', family: 4 },
      { address: '64:ff9b::192.0.2.1', family: 6 },
    ]);
    own.proven(DOOR, '64:ff9b::192.0.2.1');
    says = {};
    expect(await looked(hosts(), 'door.example')).toBe('ENOTFOUND');
  });

  test('are told with their ports as soon as the resolver has been asked', async () => {
    const own = hosts();
    expect(own.complete).toBe(false);
    await own.refresh();
    expect(own.complete).toBe(true);
    expect(own.destinations).toEqual([
      { address: '192.0.2.1', port: 443 },
      { address: '192.0.2.2', port: 8443 },
      { address: '2001:db8::2', port: 8443 },
    ]);
  });

  test('an address in a URL needs no resolver', () => {
    const own = hosts({ urls: ['ws://[2001:db8::7]:8080/', 'https://192.0.2.9/token'] });
    expect(own.complete).toBe(true);
    expect(own.destinations).toEqual([
      { address: '2001:db8::7', port: 8080 },
      { address: '192.0.2.9', port: 443 },
    ]);
  });

  test('the way is opened before the first connection to a new address', async () => {
    const own = hosts();
    expect(await looked(own, 'door.example')).toEqual([{ address: '192.0.2.1', family: 4 }]);
    expect(changes).toBe(1);
    await looked(own, 'door.example');
    expect(changes).toBe(1);
    says['door.example'] = ['192.0.2.3'];
    await looked(own, 'door.example');
    expect(changes).toBe(2);
  });

  test('an address that has proven itself is tried when nothing resolves the name, also by the next process', async () => {
    const own = hosts();
    await own.refresh();
    own.proven(DOOR, '192.0.2.1');
    says = { 'door.example': 'silence' };
    const next = hosts();
    expect(await looked(next, 'door.example')).toEqual([{ address: '192.0.2.1', family: 4 }]);
    expect(await looked(next, 'issuer.example')).toBe('ENOTFOUND');
    expect(next.complete).toBe(false);
  });

  test('what a resolver makes up never displaces one that has proven itself', async () => {
    const own = hosts();
    await own.refresh();
    own.proven(DOOR, '192.0.2.1');
    for (let lie = 0; lie < 40; lie += 1) {
      says['door.example'] = [`203.0.113.${lie}`];
      await own.refresh();
    }
    expect(await looked(own, 'door.example')).toEqual([
      { address: '203.0.113.39', family: 4 },
      { address: '192.0.2.1', family: 4 },
    ]);
    expect(own.destinations.filter(({ port }) => port === 443)).toHaveLength(2);
  });

  test('without TLS nothing proves itself', async () => {
    const own = hosts({ urls: ['ws://door.example/'] });
    await own.refresh();
    own.proven('ws://door.example/', '192.0.2.1');
    says = {};
    expect(await looked(hosts({ urls: ['ws://door.example/'] }), 'door.example')).toBe('ENOTFOUND');
  });

  test('only the wanted family is answered', async () => {
    const own = hosts();
    expect(await looked(own, 'issuer.example', true, 6)).toEqual([{ address: '2001:db8::2', family: 6 }]);
    expect(await looked(own, 'issuer.example', false, 4)).toBe('192.0.2.2');
    expect(await looked(own, 'door.example', true, 6)).toBe('ENOTFOUND');
  });

  test('a file of addresses that is damaged costs nothing but the addresses', async () => {
    new StateDir(dir).write('hosts.json', '{"door.example":[1],"issuer.example"');
    expect(hosts().complete).toBe(false);
  });
});
