import { beforeEach, describe, expect, it } from 'vitest';
import { LEARNING } from '../../../src/datapath/decision/tables.ts';
import { decisionWorld, END, OTHER_SHARED, PEER, PEER6, SHARED, SHARED6, WHOLE } from './decision-world.ts';
import { icmp, ip, lease, quote, udp } from './packets.ts';

const ANN_SPI = 0xa1a1_a1a1_0000_0001n;
const BOB_SPI = 0xb0b0_b0b0_0000_0001n;
const PEER_SPI = 0xeeee_eeee_0000_0001n;
const INIT = 34;
const INFORMATIONAL = 37;

let world: ReturnType<typeof decisionWorld>;
beforeEach(() => {
  world = decisionWorld();
});

interface Ike {
  readonly initiator: bigint;
  readonly responder?: bigint;
  /** True in messages of who began the association. */
  readonly fromInitiator: boolean;
  readonly version?: 1 | 2 | 3;
  readonly exchange?: number;
}

/** An IKE header by RFC 7296 §3.1, with 20 octets behind it. */
function ike({ initiator, responder = 0n, fromInitiator, version = 2, exchange = INFORMATIONAL }: Ike) {
  const out = new Uint8Array(48);
  const view = new DataView(out.buffer);
  view.setBigUint64(0, initiator);
  view.setBigUint64(8, responder);
  out[17] = version << 4;
  out[18] = exchange;
  out[19] = version === 2 && fromInitiator ? 0x08 : 0;
  view.setUint32(24, out.length);
  return out;
}

const marked = (message: Uint8Array): Uint8Array => Uint8Array.of(0, 0, 0, 0, ...message);
const out = (port: number, message: Uint8Array, from = SHARED, to = PEER) =>
  ip(from, to, 17, udp(port, port, message));
const into = (port: number, message: Uint8Array, to = SHARED, from = PEER) =>
  ip(from, to, 17, udp(port, port, message));

describe.each([
  ['500', 500, (message: Uint8Array): Uint8Array => message],
  ['4500 behind the marker', 4500, marked],
] as const)('IKE on port %s', (_name, port, framed) => {
  it.each([
    [1, SHARED, PEER],
    [2, SHARED, PEER],
    [2, SHARED6, PEER6],
  ] as const)('R50: begun by a device is answered to it by its SPI (IKEv%i, %s)', (version, here, there) => {
    for (const [name, initiator] of [
      ['ann', ANN_SPI],
      ['bob', BOB_SPI],
    ] as const) {
      const asked = ike({ initiator, fromInitiator: true, version, exchange: INIT });
      const answer = ike({ initiator, responder: PEER_SPI, fromInitiator: false, version, exchange: INIT });
      expect(world.down(into(port, framed(answer), here, there))).toBe('ike-unmatched');
      expect(world.up(name, out(port, framed(asked), here, there))).toBe('forwarded');
      expect(world.down(into(port, framed(answer), here, there))).toBe(name);
    }
  });

  it('R50: with an SPI that another device on the address uses is not let out, towards any peer', () => {
    const asked = framed(ike({ initiator: ANN_SPI, fromInitiator: true }));
    expect(world.up('ann', out(port, asked))).toBe('forwarded');
    expect(world.up('bob', out(port, asked))).toBe('ike-cookie-taken');
    expect(world.up('bob', out(port, asked, SHARED, '198.51.100.10'))).toBe('ike-cookie-taken');
    expect(world.up('bob', out(port, asked, OTHER_SHARED))).toBe('forwarded');
    const answer = framed(ike({ initiator: ANN_SPI, responder: PEER_SPI, fromInitiator: false }));
    expect(world.down(into(port, answer))).toBe('ann');
    expect(world.down(into(port, answer, OTHER_SHARED))).toBe('bob');
  });

  it('R50: is forgotten with the lease, and some time after the last packet', () => {
    const asked = framed(ike({ initiator: ANN_SPI, fromInitiator: true }));
    const answer = framed(ike({ initiator: ANN_SPI, responder: PEER_SPI, fromInitiator: false }));
    world.up('ann', out(port, asked), 0);
    world.up('ann', out(port, asked), 1000);
    expect(world.down(into(port, answer), LEARNING.cookies.keepMs + 999)).toBe('ann');
    expect(world.down(into(port, answer), LEARNING.cookies.keepMs + 1000)).toBe('ike-unmatched');
    world.up('ann', out(port, asked), 2000);
    const held = [...world.tables.leases()].find(({ session }) => session === 'ann')!;
    world.tables.remove(held.id);
    expect(world.down(into(port, answer), 2000)).toBe('ike-unmatched');
    expect(world.up('bob', out(port, asked), 2000)).toBe('forwarded');
  });

  it('R50: of one device fills its own quota only: the association silent for longest gives way', () => {
    const asked = (initiator: bigint) => framed(ike({ initiator, fromInitiator: true }));
    const answer = (initiator: bigint) => into(port, framed(ike({ initiator, fromInitiator: false })));
    world.up('bob', out(port, asked(BOB_SPI)));
    for (let n = 0n; n < LEARNING.cookies.perLease; n += 1n) world.up('ann', out(port, asked(ANN_SPI + n)));
    world.up('ann', out(port, asked(ANN_SPI)));
    expect(world.up('ann', out(port, asked(0x77n)))).toBe('forwarded');
    expect(world.down(answer(ANN_SPI))).toBe('ann');
    expect(world.down(answer(ANN_SPI + 1n))).toBe('ike-unmatched');
    expect(world.down(answer(ANN_SPI + 2n))).toBe('ann');
    expect(world.down(answer(0x77n))).toBe('ann');
    expect(world.down(answer(BOB_SPI))).toBe('bob');
  });

  it('R52: whose association the peer renewed reaches the device by its own half, once it has spoken there', () => {
    const responder = ANN_SPI + 9n;
    const renewed = { initiator: PEER_SPI, responder };
    const byPeer = framed(ike({ ...renewed, fromInitiator: true }));
    expect(world.down(into(port, byPeer))).toBe('ike-unmatched');
    expect(world.up('ann', out(port, framed(ike({ ...renewed, fromInitiator: false }))))).toBe('forwarded');
    expect(world.down(into(port, byPeer))).toBe('ann');
    // The peer's own half says nothing: another device's association with the same number is another one.
    expect(world.down(into(port, framed(ike({ ...renewed, fromInitiator: false }))))).toBe('ike-unmatched');
  });

  it('needs IPsec in the lease, a version that is known, and an SPI of its own', () => {
    const asked = (fields: Partial<Ike>) =>
      out(port, framed(ike({ initiator: ANN_SPI, fromInitiator: true, ...fields })));
    expect(world.up('cyd', asked({}))).toBe('ipsec-unallowed');
    expect(world.up('eve', asked({}))).toBe('unleased-address');
    expect(world.up('ann', asked({ version: 3 }))).toBe('ike-malformed');
    expect(world.up('ann', asked({ initiator: 0n }))).toBe('ike-malformed');
    expect(world.up('ann', asked({ fromInitiator: false }))).toBe('ike-malformed');
    expect(world.up('ann', out(port, framed(new Uint8Array(27))))).toBe('ike-malformed');
    expect(world.down(into(port, framed(new Uint8Array(27))))).toBe('malformed');
    expect(world.down(into(port, framed(new Uint8Array(28))))).toBe('ike-unmatched');
    expect(world.up('bob', out(port, framed(new Uint8Array(5)), WHOLE))).toBe('forwarded');
  });

  it('R42: is found again in an ICMP error that quotes enough of it, and in none that does not', () => {
    const asked = out(port, framed(ike({ initiator: ANN_SPI, fromInitiator: true })));
    const error = (octets: number) => ip('192.0.2.1', SHARED, 1, icmp(3, 1, 0, quote(asked, octets)));
    world.up('ann', asked);
    expect(world.down(error(8 + 32))).toBe('ann');
    expect(world.down(error(8))).toBe('icmp-unmatched');
  });
});

/** Ann's IKE SPIs begin with a1a1, Bob's with b0b0: leased, as few as the pool's plan says. */
function leaseIkeSpis() {
  const share = (name: 'ann' | 'bob', address: string, port: number, prefix: number) =>
    world.tables.put(
      lease({
        kind: 'rsipsec',
        address,
        ports: { first: port, count: 64 },
        spis: { first: port * 1024, count: 16 },
        ikeSpis: { first: prefix * 0x1_0000, count: 0x1_0000 },
      }),
      name,
      END,
      0,
    );
  for (const address of [SHARED, SHARED6]) {
    share('ann', address, 4096, 0xa1a1);
    share('bob', address, 8192, 0xb0b0);
  }
}

describe.each([
  ['500', 500, (message: Uint8Array): Uint8Array => message],
  ['4500 behind the marker', 4500, marked],
] as const)('IKE by leased SPIs on port %s', (_name, port, framed) => {
  beforeEach(leaseIkeSpis);

  it.each([
    [SHARED, PEER],
    [SHARED6, PEER6],
  ])('R50: reaches the device by its half, which nobody had to learn (%s)', (here, there) => {
    for (const [name, initiator] of [
      ['ann', ANN_SPI],
      ['bob', BOB_SPI],
    ] as const) {
      for (const version of [1, 2] as const) {
        const answer = framed(ike({ initiator, responder: PEER_SPI, fromInitiator: false, version }));
        expect(world.down(into(port, answer, here, there))).toBe(name);
      }
    }
  });

  it('R52: whose association the peer renewed reaches the device before it has spoken there', () => {
    const renewed = { initiator: PEER_SPI, responder: ANN_SPI + 9n };
    expect(world.down(into(port, framed(ike({ ...renewed, fromInitiator: true }))))).toBe('ann');
    // Which half is the device's, the flag alone says: a peer may choose the same number for its own.
    const twisted = { initiator: BOB_SPI, responder: ANN_SPI };
    expect(world.down(into(port, framed(ike({ ...twisted, fromInitiator: true }))))).toBe('ann');
    expect(world.down(into(port, framed(ike({ ...twisted, fromInitiator: false }))))).toBe('bob');
  });

  it('R50: an SPI out of the block of another is not let out, and one out of no block is learned', () => {
    const asked = (initiator: bigint) => framed(ike({ initiator, fromInitiator: true }));
    expect(world.up('ann', out(port, asked(ANN_SPI)))).toBe('forwarded');
    expect(world.up('bob', out(port, asked(ANN_SPI)))).toBe('ike-cookie-taken');
    expect(world.up('bob', out(port, asked(0xc0c0_0000_0000_0001n)))).toBe('forwarded');
    const answer = framed(ike({ initiator: 0xc0c0_0000_0000_0001n, fromInitiator: false }));
    expect(world.down(into(port, answer))).toBe('bob');
  });

  it('R50: a learned SPI gives way to the lease of a block around it', () => {
    const other = 0xd0d0_0000_0000_0001n;
    const answer = into(port, framed(ike({ initiator: other, fromInitiator: false })));
    world.up('bob', out(port, framed(ike({ initiator: other, fromInitiator: true }))));
    expect(world.down(answer)).toBe('bob');
    world.tables.put(
      lease({
        kind: 'rsipsec',
        address: SHARED,
        ports: { first: 12_288, count: 64 },
        spis: { first: 0x5000_0000, count: 16 },
        ikeSpis: { first: 0xd0d0_0000, count: 0x1_0000 },
      }),
      'ann',
      END,
      0,
    );
    expect(world.down(answer)).toBe('ann');
    expect(world.up('bob', out(port, framed(ike({ initiator: other, fromInitiator: true }))))).toBe(
      'ike-cookie-taken',
    );
  });

  it('R50: ends with the lease, at its instant', () => {
    const asked = out(port, framed(ike({ initiator: ANN_SPI, fromInitiator: true })));
    const answer = into(port, framed(ike({ initiator: ANN_SPI, fromInitiator: false })));
    expect(world.down(answer, END - 1)).toBe('ann');
    expect(world.down(answer, END)).toBe('expired');
    expect(world.up('ann', asked, END)).toBe('expired');
    for (const held of [...world.tables.leases()]) if (held.session === 'ann') world.tables.remove(held.id);
    expect(world.down(answer, 0)).toBe('ike-unmatched');
  });

  it('R42: is found in an ICMP error without having been learned', () => {
    const asked = out(port, framed(ike({ initiator: ANN_SPI, fromInitiator: true })));
    expect(world.down(ip('192.0.2.1', SHARED, 1, icmp(3, 1, 0, quote(asked, 40))))).toBe('ann');
  });
});

it('a block of IKE SPIs that another device holds is not leased twice', () => {
  leaseIkeSpis();
  const again = lease({
    kind: 'rsipsec',
    address: SHARED,
    ports: { first: 16_384, count: 64 },
    spis: { first: 0x6000_0000, count: 16 },
    ikeSpis: { first: 0xa1a1_0000, count: 0x1_0000 },
  });
  expect(() => world.tables.put(again, 'bob', END, 0)).toThrow(/holds it/);
});

describe('UDP 4500 of a shared address', () => {
  const espInUdp = (spi: number) =>
    Uint8Array.of(spi >>> 24, spi >>> 16, spi >>> 8, spi, ...new Uint8Array(28));

  it('R53: tells IKE, ESP and keepalives apart', () => {
    world.up('bob', out(4500, marked(ike({ initiator: BOB_SPI, fromInitiator: true }))));
    const answer = marked(ike({ initiator: BOB_SPI, responder: PEER_SPI, fromInitiator: false }));
    expect(world.down(into(4500, answer))).toBe('bob');
    expect(world.down(into(4500, espInUdp(0x1000_000f)))).toBe('ann');
    expect(world.down(into(4500, espInUdp(0x2000_0000)))).toBe('bob');
    expect(world.down(into(4500, espInUdp(0x1000_0010)))).toBe('unleased-spi');
    expect(world.down(into(4500, espInUdp(1)))).toBe('unleased-spi');
    expect(world.down(into(4500, Uint8Array.of(0xff)))).toBe('nat-keepalive');
    expect(world.down(into(4500, Uint8Array.of(0xfe)))).toBe('malformed');
    expect(world.down(into(4500, new Uint8Array(0)))).toBe('malformed');
  });

  it('R53: lets the three kinds out with IPsec in the lease', () => {
    for (const message of [espInUdp(0xcafe), Uint8Array.of(0xff)]) {
      expect(world.up('ann', out(4500, message))).toBe('forwarded');
      expect(world.up('cyd', out(4500, message))).toBe('ipsec-unallowed');
    }
    expect(world.up('ann', out(4500, Uint8Array.of(1, 2, 3)))).toBe('ike-malformed');
  });

  it('R42: ESP in UDP is found again in an ICMP error by the SPI towards that peer', () => {
    const sent = out(4500, espInUdp(0xcafe));
    const error = ip('192.0.2.1', SHARED, 1, icmp(3, 4, 1280, quote(sent, 16)));
    expect(world.down(error)).toBe('icmp-unmatched');
    world.up('ann', sent);
    expect(world.down(error)).toBe('ann');
  });

  it('R42: a device may report an error about what reached it there, and nothing else', () => {
    const about = (packet: Uint8Array) => ip(SHARED, PEER, 1, icmp(3, 3, 0, quote(packet, 16)));
    expect(world.up('ann', about(into(4500, espInUdp(0x1000_0001))))).toBe('forwarded');
    expect(world.up('bob', about(into(4500, espInUdp(0x1000_0001))))).toBe('icmp-unmatched');
  });

  it('R50: belongs to who leases the port itself, and to no other', () => {
    const ports = { first: 4480, count: 64 };
    world.tables.put(lease({ kind: 'rsap-ip', address: SHARED, ports }), 'cyd', 1e9, 0);
    const asked = marked(ike({ initiator: ANN_SPI, fromInitiator: true }));
    expect(world.down(into(4500, espInUdp(0x1000_0000)))).toBe('cyd');
    expect(world.up('ann', out(4500, asked))).toBe('unleased-port');
    expect(world.up('cyd', out(4500, asked))).toBe('forwarded');
  });
});
