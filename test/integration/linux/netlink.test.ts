import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ensureAddress, listAddresses, removeAddress } from '../../../src/linux/addresses.ts';
import { findLink, listLinks, setLink } from '../../../src/linux/links.ts';
import {
  ensureNeighbourProxy,
  listNeighbourProxies,
  listNeighbours,
  removeNeighbour,
  removeNeighbourProxy,
} from '../../../src/linux/neighbours.ts';
import { withNetlink } from '../../../src/linux/netlink.ts';
import { ensureRoute, listRoutes, type RouteSpec, removeRoute } from '../../../src/linux/routes.ts';
import { ensureRule, listRules, type Rule, removeRule } from '../../../src/linux/rules.ts';
import { readSysctl, writeSysctl } from '../../../src/linux/sysctl.ts';
import { createNamespace, describeAsRoot } from './own-namespace.ts';

/** `ip` is the other witness: what we say must be what it sees, and the reverse. */
describeAsRoot('rtnetlink', () => {
  const namespace = createNamespace();
  const { run, ip } = namespace;
  const twice = (act: () => void) => {
    run(act);
    run(act);
  };
  const rows = (command: string) => ip(command) as Record<string, unknown>[];

  beforeAll(() => {
    ip('link add va type veth peer name vb');
    // Link-local addresses come when they like: the tables would change under the tests.
    ip('link set va addrgenmode none');
    ip('link set vb addrgenmode none');
    ip('link set vb up');
    ip('link set va up');
    run(() => ensureAddress('va', '192.0.2.1/24'));
    run(() => ensureAddress('va', '2001:db8::1/64'));
  });
  afterAll(() => namespace.close());

  describe('links', () => {
    it('are listed as ip lists them', () => {
      const ours = run(() => listLinks()).map(({ name, ifindex, mtu }) => ({ name, ifindex, mtu }));
      const theirs = rows('-j link').map((row) => ({ name: row.ifname, ifindex: row.ifindex, mtu: row.mtu }));
      expect(ours).toEqual(theirs);
      expect(run(() => findLink('va'))).toMatchObject({
        up: true,
        carrier: true,
        operstate: 'up',
        kind: 'veth',
      });
      expect(run(() => findLink('lo'))).toMatchObject({ loopback: true });
    });

    it('change only in what is named', () => {
      run(() => setLink('vb', { mtu: 1400 }));
      expect(run(() => findLink('vb'))).toMatchObject({ mtu: 1400, up: true });
      run(() => setLink('vb', { up: false }));
      expect(run(() => findLink('vb'))).toMatchObject({ mtu: 1400, up: false });
      expect(run(() => findLink('va'))).toMatchObject({ up: true, carrier: false });
      run(() => setLink('vb', { up: true }));
    });

    it('that are not there are named in the fault', () => {
      expect(run(() => findLink('gone0'))).toBeUndefined();
      expect(() => run(() => setLink('gone0', { up: true }))).toThrow(/device gone0 failed with ENODEV/);
    });
  });

  describe('addresses', () => {
    it('are usable at once, and given and taken any number of times', () => {
      for (const address of ['192.0.2.7/32', '2001:db8::7/128']) {
        twice(() => ensureAddress('va', address));
        const found = run(() => listAddresses('va')).find((one) => address.startsWith(`${one.address}/`));
        expect(found).toMatchObject({ usable: true, permanent: true, scope: 'global' });
        expect(ip('-o addr show dev va')).toContain(` ${address} `);
        twice(() => removeAddress('va', address));
        expect(ip('-o addr show dev va')).not.toContain(` ${address} `);
      }
    });

    it('with an impossible prefix length are refused before the kernel sees them', () => {
      expect(() => run(() => ensureAddress('va', '2001:db8::1/200'))).toThrow(/0 to 128/);
      expect(() => run(() => ensureAddress('va', '192.0.2.1/x'))).toThrow(/0 to 32/);
    });
  });

  describe('routes', () => {
    const ROUTES: readonly (RouteSpec & { readonly seen: Record<string, unknown> })[] = [
      {
        destination: '198.51.100.0/24',
        via: '192.0.2.9',
        table: 5000,
        metric: 7,
        source: '192.0.2.1',
        seen: { dst: '198.51.100.0/24', gateway: '192.0.2.9', metric: 7, prefsrc: '192.0.2.1', dev: 'va' },
      },
      {
        destination: '203.0.113.7',
        device: 'va',
        seen: { dst: '203.0.113.7', dev: 'va', scope: 'link' },
      },
      {
        destination: '203.0.113.0/24',
        kind: 'blackhole',
        metric: 4_294_967_294,
        seen: { type: 'blackhole', dst: '203.0.113.0/24' },
      },
      {
        destination: '0.0.0.0/0',
        via: '10.99.0.1',
        device: 'va',
        onlink: true,
        mtu: 1280,
        seen: { dst: 'default', gateway: '10.99.0.1', flags: ['onlink'] },
      },
      {
        destination: '2001:db8:1::/48',
        via: '2001:db8::9',
        device: 'va',
        metric: 3,
        seen: { dst: '2001:db8:1::/48', gateway: '2001:db8::9', metric: 3 },
      },
      { destination: '2001:db8:2::7', device: 'va', table: 5000, seen: { dst: '2001:db8:2::7', dev: 'va' } },
      {
        destination: '2001:db8:2::/48',
        kind: 'blackhole',
        seen: { type: 'blackhole', dst: '2001:db8:2::/48' },
      },
    ];
    it.each(ROUTES)('to $destination come and go, and both any number of times', ({ seen, ...route }) => {
      const family = route.destination.includes(':') ? '-6' : '-4';
      const show = `${family} -j route show table all`;
      const before = rows(show);
      twice(() => ensureRoute(route));
      expect(rows(show)).toContainEqual(expect.objectContaining(seen));
      expect(rows(show)).toHaveLength(before.length + 1);
      const destination = route.destination.includes('/')
        ? route.destination
        : `${route.destination}/${family === '-6' ? 128 : 32}`;
      const listed = run(() => listRoutes({ table: route.table ?? 254 })).find(
        (one) => one.destination === destination,
      );
      expect(listed).toMatchObject({ kind: route.kind ?? 'unicast' });
      expect(listed?.hops.length).toBe(route.kind === 'blackhole' ? 0 : 1);
      twice(() => removeRoute(route));
      expect(rows(show)).toEqual(before);
    });

    it('to the same destination are replaced, not heaped up', () => {
      run(() => ensureRoute({ destination: '198.51.100.0/24', via: '192.0.2.9' }));
      run(() => ensureRoute({ destination: '198.51.100.0/24', via: '192.0.2.10' }));
      expect(rows('-j route show 198.51.100.0/24')).toEqual([
        expect.objectContaining({ gateway: '192.0.2.10' }),
      ]);
      run(() => removeRoute({ destination: '198.51.100.0/24' }));
    });

    it('over a device that is gone count as removed', () => {
      run(() => removeRoute({ destination: '198.51.100.0/24', device: 'gone0' }));
      expect(() => run(() => ensureRoute({ destination: '198.51.100.0/24', device: 'gone0' }))).toThrow(
        /gone0/,
      );
    });

    it('with several ways out are read with all of them', () => {
      ip('route add 198.51.100.0/24 nexthop via 192.0.2.9 nexthop via 192.0.2.10');
      const route = run(() => listRoutes({ family: 4 })).find((one) => one.destination === '198.51.100.0/24');
      expect(route?.hops.map((hop) => hop.via)).toEqual(['192.0.2.9', '192.0.2.10']);
      ip('route del 198.51.100.0/24');
    });

    it('that cannot be are refused in words: the object, and what the kernel says', () => {
      expect(() => run(() => ensureRoute({ destination: '198.51.100.0/24', via: '10.1.1.1' }))).toThrow(
        /unicast route 198\.51\.100\.0\/24 via 10\.1\.1\.1 failed with ENETUNREACH: the kernel says/,
      );
      expect(() => run(() => ensureRoute({ destination: '198.51.100.0/24' }))).toThrow(/a device, a gateway/);
      expect(() => run(() => ensureRoute({ destination: '198.51.100.1/24', device: 'va' }))).toThrow(/bits/);
    });

    it('by the thousand are listed whole', () => {
      run(() =>
        withNetlink((netlink) => {
          for (let i = 0; i < 3000; i += 1) {
            ensureRoute(
              { destination: `10.${i >> 8}.${i & 255}.1`, kind: 'blackhole', table: 7000 },
              netlink,
            );
          }
        }),
      );
      const destinations = run(() => listRoutes({ table: 7000 })).map((route) => route.destination);
      expect(new Set(destinations).size).toBe(3000);
    });
  });

  describe('rules', () => {
    const RULES: readonly Rule[] = [
      { family: 4, priority: 100, table: 5000, from: '192.0.2.1/32' },
      { family: 4, priority: 101, table: 5000, mark: 0x4d, mask: 0xff, not: true },
      { family: 4, priority: 102, table: 254, iif: 'va', suppressPrefixLength: 0 },
      { family: 6, priority: 103, table: 5001, to: '2001:db8:1::/48', oif: 'va' },
      { family: 6, priority: 104, table: 5001, from: '2001:db8::7/128' },
    ];
    it.each(RULES)('$priority comes and goes, and both any number of times', (rule) => {
      const before = run(() => listRules());
      twice(() => ensureRule(rule));
      expect(run(() => listRules(rule.family))).toContainEqual(rule);
      expect(run(() => listRules())).toHaveLength(before.length + 1);
      const [seen] = rows(`-${rule.family} -j rule show priority ${rule.priority}`);
      expect(seen).toMatchObject({ table: rule.table === 254 ? 'main' : String(rule.table) });
      twice(() => removeRule(rule));
      expect(run(() => listRules())).toEqual(before);
    });
  });

  describe('neighbours', () => {
    it.each(['203.0.113.9', '2001:db8::77'])('answer for %s by proxy, until told otherwise', (address) => {
      const show = `${address.includes(':') ? '-6' : '-4'} -j neigh show proxy`;
      twice(() => ensureNeighbourProxy('va', address));
      expect(rows(show)).toContainEqual(expect.objectContaining({ dst: address, dev: 'va' }));
      expect(run(listNeighbourProxies).map((proxy) => proxy.address)).toContain(address);
      twice(() => removeNeighbourProxy('va', address));
      expect(rows(show)).toEqual([]);
    });

    it('are known, and are forgotten for good', () => {
      const mac = Uint8Array.of(2, 0, 0, 0, 0, 9);
      ip('neighbour add 192.0.2.50 lladdr 02:00:00:00:00:09 dev va nud permanent');
      expect(run(listNeighbours)).toContainEqual(
        expect.objectContaining({ address: '192.0.2.50', mac, permanent: true }),
      );
      twice(() => removeNeighbour('va', '192.0.2.50'));
      expect(run(listNeighbours).map((one) => one.address)).not.toContain('192.0.2.50');
    });
  });

  describe('sysctl', () => {
    it('returns the former value, so that it can be put back', () => {
      const name = 'net/ipv4/conf/va/forwarding';
      const former = run(() => writeSysctl(name, '1'));
      expect(former).toBe('0');
      expect(run(() => readSysctl(name))).toBe('1');
      expect(run(() => writeSysctl(name, former))).toBe('1');
    });

    it('names what it cannot reach, and leaves /proc/sys alone otherwise', () => {
      expect(() => readSysctl('net/ipv4/conf/gone0/forwarding')).toThrow(/gone0/);
      expect(() => readSysctl('../self/environ')).toThrow(/not a name below/);
    });
  });
});
