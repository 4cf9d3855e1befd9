import fc from 'fast-check';
import { beforeEach, describe, expect, it } from 'vitest';
import type { Remote } from '../../../src/protocol/lease.ts';
import { decisionWorld, END, PEER, PEER6, SHARED, SHARED6 } from './decision-world.ts';
import { anchor, at, EngineRig, install } from './engine-rig.ts';
import { ah, echo, esp, icmp, ip, lease, quote, tcp, udp } from './packets.ts';

const OTHER = '198.51.100.10';
const OTHER6 = '2001:db8:ffff::10';
const ROUTER = '192.0.2.1';
const ROUTER6 = '2001:db8:1::1';
const OWN_WHOLE = '203.0.113.9';
const OWN_WHOLE6 = '2001:db8::9';
const PORT = 4100;
const SPI = 0x4000_0001;

let world: ReturnType<typeof decisionWorld>;
beforeEach(() => {
  world = decisionWorld();
});

/** A lease of Ann's for that remote alone. */
function declare(kind: 'rsipsec' | 'rsa-ip', address: string, remote: Remote, port = 4096, spi = SPI - 1) {
  const share = { ports: { first: port, count: 64 }, spis: { first: spi, count: 16 } };
  const held = lease({ kind, address, remote, ...(kind === 'rsa-ip' ? {} : share) });
  world.tables.put(held, 'ann', END, 0);
}

/** Ends Ann's leases for any remote. */
function endUndeclared() {
  for (const { id, session, remote } of [...world.tables.leases()]) {
    if (session === 'ann' && remote === null) world.tables.remove(id);
  }
}

describe.each([
  ['IPv4', SHARED, OWN_WHOLE, PEER, OTHER, ROUTER, 1],
  ['IPv6', SHARED6, OWN_WHOLE6, PEER6, OTHER6, ROUTER6, 58],
] as const)('a lease for one remote (%s)', (_name, shared, whole, peer, other, router, icmpProtocol) => {
  const unreachable = (packet: Uint8Array, to: string) =>
    ip(router, to, icmpProtocol, icmp(icmpProtocol === 1 ? 3 : 1, 1, 0, quote(packet)));
  const ping = (from: string, to: string, id: number) =>
    ip(from, to, icmpProtocol, echo(icmpProtocol === 1 ? 8 : 128, id));
  const pong = (from: string, to: string, id: number) =>
    ip(from, to, icmpProtocol, echo(icmpProtocol === 1 ? 0 : 129, id));

  it.each(['rsipsec', 'rsa-ip'] as const)('R36: of any port lets out what goes to it only (%s)', (kind) => {
    const own = kind === 'rsa-ip' ? whole : shared;
    declare(kind, own, { address: peer, port: null });
    for (const [to, verdict] of [
      [peer, 'forwarded'],
      [other, 'remote-address'],
    ] as const) {
      expect(world.up('ann', ip(own, to, 17, udp(PORT, 53)))).toBe(verdict);
      expect(world.up('ann', ip(own, to, 6, tcp(PORT, 443)))).toBe(verdict);
    }
  });

  it.each(['rsipsec', 'rsa-ip'] as const)(
    'R36: of one port lets out what goes to that port only (%s)',
    (kind) => {
      const own = kind === 'rsa-ip' ? whole : shared;
      declare(kind, own, { address: peer, port: 53 });
      expect(world.up('ann', ip(own, peer, 17, udp(PORT, 53)))).toBe('forwarded');
      expect(world.up('ann', ip(own, peer, 6, tcp(PORT, 53)))).toBe('forwarded');
      expect(world.up('ann', ip(own, peer, 17, udp(PORT, 54)))).toBe('remote-port');
      expect(world.up('ann', ip(own, other, 17, udp(PORT, 53)))).toBe('remote-address');
    },
  );

  it.each(['rsipsec', 'rsa-ip'] as const)('R29: lets in what comes from it only (%s)', (kind) => {
    const own = kind === 'rsa-ip' ? whole : shared;
    declare(kind, own, { address: peer, port: 53 });
    expect(world.down(ip(peer, own, 17, udp(53, PORT)))).toBe('ann');
    expect(world.down(ip(peer, own, 6, tcp(53, PORT)))).toBe('ann');
    expect(world.down(ip(peer, own, 17, udp(54, PORT)))).toBe('undeclared-remote');
    expect(world.down(ip(other, own, 17, udp(53, PORT)))).toBe('undeclared-remote');
    expect(world.down(ip(peer, own, 50, esp(SPI)))).toBe('ann');
    expect(world.down(ip(other, own, 51, ah(SPI)))).toBe('undeclared-remote');
  });

  it.each(['rsipsec', 'rsa-ip'] as const)(
    'R29: lets in errors about what went to it, from anyone (%s)',
    (kind) => {
      const own = kind === 'rsa-ip' ? whole : shared;
      declare(kind, own, { address: peer, port: 53 });
      expect(world.down(unreachable(ip(own, peer, 17, udp(PORT, 53)), own))).toBe('ann');
      expect(world.down(unreachable(ip(own, peer, 17, udp(PORT, 54)), own))).toBe('undeclared-remote');
      expect(world.down(unreachable(ip(own, other, 17, udp(PORT, 53)), own))).toBe('undeclared-remote');
    },
  );

  it('R29: lets pings out to it and their answers in, by address alone', () => {
    declare('rsa-ip', whole, { address: peer, port: 53 });
    expect(world.up('ann', ping(whole, peer, 7))).toBe('forwarded');
    expect(world.up('ann', ping(whole, other, 7))).toBe('remote-address');
    expect(world.down(pong(peer, whole, 7))).toBe('ann');
    expect(world.down(pong(other, whole, 7))).toBe('undeclared-remote');
  });

  it('R36: of two leases of a device IPsec goes out under the one for its remote', () => {
    endUndeclared();
    declare('rsipsec', shared, { address: other, port: null });
    declare('rsipsec', shared, { address: peer, port: null }, 5120, 0x5000_0000);
    const sent = ip(shared, peer, 50, esp(0xcafe));
    expect(world.up('ann', sent)).toBe('forwarded');
    expect(world.up('ann', ip(shared, other, 50, esp(0xcafe)))).toBe('forwarded');
    expect(world.up('ann', ip(shared, router, 50, esp(0xcafe)))).toBe('remote-address');
    expect(world.down(unreachable(sent, shared))).toBe('ann');
  });

  it('R36: a packet that is refused teaches nothing', () => {
    declare('rsipsec', shared, { address: other, port: null }, 5120, 0x5000_0000);
    endUndeclared();
    const refused = ip(shared, peer, 50, esp(0xcafe));
    expect(world.up('ann', refused)).toBe('remote-address');
    expect(world.up('ann', ping(shared, peer, 7))).toBe('remote-address');
    expect(world.down(unreachable(refused, shared))).toBe('icmp-unmatched');
    expect(world.down(pong(peer, shared, 7))).toBe('icmp-unasked');
  });

  it('R29: of one port needs the whole datagram to judge a later fragment', () => {
    declare('rsa-ip', whole, { address: peer, port: 53 });
    const [from, to] = [whole, peer];
    const packet = (source: string, destination: string) =>
      icmpProtocol === 1
        ? ip(source, destination, 17, udp(53, 53), { offset: 5 })
        : ip(source, destination, 44, Uint8Array.of(17, 0, 0, 40, 0, 0, 0, 1, ...udp(53, 53)));
    expect(world.up('ann', packet(from, to))).toBe('fragment');
    expect(world.down(packet(to, from))).toBe('fragment');
  });

  it('R28: is refused when the remote is of another family', () => {
    const foreign = shared === SHARED ? PEER6 : PEER;
    expect(() => declare('rsipsec', shared, { address: foreign, port: null })).toThrow(/family/);
  });
});

it('R29: whatever passes one way under a policy passes back, and nothing else does', () => {
  const peers = fc.constantFrom(PEER, OTHER);
  const ports = fc.constantFrom(53, 54);
  fc.assert(
    fc.property(peers, fc.constantFrom(53, null), peers, ports, (address, port, to, toPort) => {
      world = decisionWorld();
      declare('rsipsec', SHARED, { address, port });
      const allowed = to === address && (port === null || toPort === port);
      expect(world.up('ann', ip(SHARED, to, 17, udp(PORT, toPort))) === 'forwarded').toBe(allowed);
      expect(world.down(ip(to, SHARED, 17, udp(toPort, PORT))) === 'ann').toBe(allowed);
      // Others on the address are not concerned.
      expect(world.up('bob', ip(SHARED, to, 17, udp(1088, toPort)))).toBe('forwarded');
    }),
  );
});

it('R36: a device that speaks to another remote is told so, by number and seldom', () => {
  const rig = new EngineRig(0xaaaan);
  anchor(rig);
  const path = at('192.0.2.10', 40_000);
  const remote = { address: PEER, port: 53 };
  const device = install(rig, 1, [lease({ kind: 'rsa-ip', address: OWN_WHOLE, remote })]);
  rig.connect(device, path);
  rig.takeSent();
  for (let n = 0; n < 100; n += 1) {
    rig.datagram(path, device.data(ip(OWN_WHOLE, OTHER, 17, udp(PORT, 53))));
    rig.datagram(path, device.data(ip(OWN_WHOLE, PEER, 17, udp(PORT, 54))));
  }
  expect(rig.takeToNetwork()).toEqual([]);
  const told = rig.takeSent().map(({ octets }) => device.take(octets, rig.nowMs));
  expect(new Set(told.map((message) => message?.code))).toEqual(new Set([314, 315]));
  expect(told.length).toBeLessThanOrEqual(5);
  expect(rig.counters().uplink).toMatchObject({ 'remote-address': 100, 'remote-port': 100 });
});
