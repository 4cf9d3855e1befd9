import { describe, expect, it } from 'vitest';
import { compareInnerPackets, tunnelledPackets } from '../../../infra/lab/inner-packets.ts';
import { type Frame, type IpPacket, ipPacketOf, readFrames, readIpPacket } from '../../../infra/lab/pcap.ts';
import { DATA, TUNNEL_PORT, TYPE } from '../../../src/tunnel/wire.ts';

function ipv4(protocol: number, payload: Buffer, ttl = 64): Buffer {
  const header = Buffer.alloc(20);
  header[0] = 0x45;
  header.writeUInt16BE(20 + payload.length, 2);
  header[8] = ttl;
  header[9] = protocol;
  header.writeUInt16BE(ttl * 7, 10);
  header.set([198, 51, 100, 50], 12);
  header.set([198, 51, 100, 20], 16);
  return Buffer.concat([header, payload]);
}

function udp(sourcePort: number, destinationPort: number, payload: Buffer): Buffer {
  const header = Buffer.alloc(8);
  header.writeUInt16BE(sourcePort, 0);
  header.writeUInt16BE(destinationPort, 2);
  header.writeUInt16BE(8 + payload.length, 4);
  return ipv4(17, Buffer.concat([header, payload]));
}

/** Short frames are padded on Ethernet: the padding is not part of the packet. */
function ethernet(packet: Buffer): Frame {
  const octets = Buffer.concat([Buffer.alloc(12), Buffer.from([0x08, 0x00]), packet, Buffer.alloc(6)]);
  return { timeMs: 0, wireOctets: octets.length, octets };
}

const espPayload = Buffer.from('10000001000000070102030405060708090a0b0c0d0e0f10', 'hex');
const ahPayload = Buffer.from('04040000200000020000000901020304', 'hex');

describe('a capture file', () => {
  const frame = ethernet(ipv4(50, espPayload)).octets;
  const capture = (magic: number, little: boolean) => {
    const file = Buffer.alloc(24 + 16);
    const put = (value: number, at: number) =>
      little ? file.writeUInt32LE(value, at) : file.writeUInt32BE(value, at);
    [magic, 0, 0, 0, 2_048, 1, 1_700_000_000, 250_000, frame.length, frame.length].forEach((value, index) => {
      put(value, index * 4);
    });
    return Buffer.concat([file, frame]);
  };

  it.each([
    ['little-endian', true],
    ['big-endian', false],
  ] as const)('is read in %s order', (_, little) => {
    const [only, ...others] = readFrames(capture(0xa1b2_c3d4, little));
    expect(others).toEqual([]);
    expect(only?.timeMs).toBe(1_700_000_000_250);
    expect(only?.octets.equals(frame)).toBe(true);
  });

  it('may end within a record that is still being written', () => {
    const whole = capture(0xa1b2_c3d4, true);
    expect([...readFrames(Buffer.concat([whole, whole.subarray(24, 60)]))]).toHaveLength(1);
    expect([...readFrames(whole.subarray(0, 10))]).toEqual([]);
  });

  it('of another format is refused', () => {
    expect(() => [...readFrames(Buffer.alloc(64, 7))]).toThrow('not a capture file');
  });
});

describe('a captured packet', () => {
  it('tells addresses, SPI and sequence number of ESP and AH', () => {
    expect(ipPacketOf(ethernet(ipv4(50, espPayload)))).toMatchObject({
      source: '198.51.100.50',
      destination: '198.51.100.20',
      protocol: 50,
      spi: 0x1000_0001,
      ipsecSequence: 7,
    });
    expect(ipPacketOf(ethernet(ipv4(51, ahPayload)))).toMatchObject({ spi: 0x2000_0002, ipsecSequence: 9 });
  });

  it('does not include the padding of its frame', () => {
    expect(ipPacketOf(ethernet(ipv4(50, espPayload)))?.octets).toHaveLength(20 + espPayload.length);
  });

  it('has no ports or SPI when it is a later fragment', () => {
    const fragment = ipv4(50, espPayload);
    fragment.writeUInt16BE(100, 6);
    const packet = readIpPacket(fragment);
    expect(packet?.protocol).toBe(50);
    expect(packet?.spi).toBeUndefined();
  });
});

describe('inner packets', () => {
  const datagram = (type: number, inner: Buffer) => {
    const header = Buffer.alloc(DATA.inner);
    header[DATA.first] = type << 4;
    return ethernet(udp(5_000, TUNNEL_PORT, Buffer.concat([header, inner])));
  };
  const packets = (...octets: Buffer[]) => octets.map((each) => readIpPacket(each) as IpPacket);

  it('are found in DATA and DATA-FULL datagrams and nowhere else', () => {
    const inner = ipv4(50, espPayload);
    const found = [
      ...tunnelledPackets([
        datagram(TYPE.data, inner),
        datagram(TYPE.dataFull, inner),
        datagram(TYPE.control, inner),
        ethernet(udp(5_000, 53, inner)),
        ethernet(inner),
      ]),
    ];
    expect(found.map(({ spi }) => spi)).toEqual([0x1000_0001, 0x1000_0001]);
  });

  it('are the same when a router took one from the TTL', () => {
    const comparison = compareInnerPackets(
      packets(ipv4(50, espPayload, 64)),
      packets(ipv4(50, espPayload, 63)),
    );
    expect(comparison).toEqual({ same: 1, different: 0, ttlSteps: [1] });
  });

  it('differ when one other octet differs', () => {
    const changed = ipv4(50, espPayload, 63);
    changed[1] = 0x04;
    expect(compareInnerPackets(packets(ipv4(50, espPayload, 64)), packets(changed))).toMatchObject({
      same: 0,
      different: 1,
    });
  });
});
