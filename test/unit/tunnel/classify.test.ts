import { describe, expect, test } from 'vitest';
import { classify, FULL, isWholePacket } from '../../../src/tunnel/classify.ts';
import { ipv4, ipv6 } from './packets.ts';

const classOf = (packet: Uint8Array): number => classify(packet, 0, packet.length);

describe('an inner packet is DATA', () => {
  test.each([50, 51])('when IPv4 without options carries protocol %i', (protocol) => {
    expect(classOf(ipv4(protocol, 100))).toBe(36);
  });
  test.each([50, 51])('when IPv6 without extension header carries protocol %i', (protocol) => {
    expect(classOf(ipv6(protocol, 100))).toBe(56);
  });
  test('with exactly 16 octets behind the header', () => {
    expect(classOf(ipv4(50, 36))).toBe(36);
    expect(classOf(ipv6(50, 56))).toBe(56);
  });
  test('wherever it lies in a buffer', () => {
    const buffer = new Uint8Array(150);
    buffer.set(ipv4(50, 100), 21);
    expect(classify(buffer, 21, 100)).toBe(36);
  });
});

describe('an inner packet is DATA-FULL', () => {
  test.each([
    ['UDP, port 4500 included', ipv4(17, 100)],
    ['TCP over IPv6', ipv6(6, 100)],
    ['15 octets behind an IPv4 header', ipv4(50, 35)],
    ['15 octets behind an IPv6 header', ipv6(50, 55)],
    ['IPv4 with options', ipv4(50, 100, (p) => p.fill(0x46, 0, 1))],
    ['IPv4 header of 16 octets', ipv4(50, 100, (p) => p.fill(0x44, 0, 1))],
    ['more fragments', ipv4(50, 100, (p) => p.fill(0x20, 6, 7))],
    ['a later fragment', ipv4(50, 100, (p) => p.fill(0x01, 7, 8))],
    ['a fragment offset in the high bits', ipv4(50, 100, (p) => p.fill(0x10, 6, 7))],
    ['IPv6 with a fragment header', ipv6(44, 100)],
    ['IPv6 with a hop-by-hop header', ipv6(0, 100)],
    ['a shorter total length than the datagram', ipv4(50, 100, (p) => p.fill(99, 3, 4))],
    ['a longer total length than the datagram', ipv4(50, 100, (p) => p.fill(101, 3, 4))],
    ['an IPv6 payload length that is not the datagram', ipv6(50, 100, (p) => p.fill(61, 5, 6))],
    ['version 5', ipv4(50, 100, (p) => p.fill(0x55, 0, 1))],
    ['nothing', new Uint8Array(0)],
  ])('%s', (_, packet) => {
    expect(classOf(packet)).toBe(FULL);
  });
});

describe('a whole packet', () => {
  test('fills its datagram by its own account', () => {
    expect(isWholePacket(ipv4(17, 28), 0, 28)).toBe(true);
    expect(isWholePacket(ipv6(17, 48), 0, 48)).toBe(true);
    expect(isWholePacket(ipv4(17, 28), 0, 27)).toBe(false);
    expect(isWholePacket(ipv6(17, 48), 0, 47)).toBe(false);
  });
  test('has at least its header', () => {
    expect(isWholePacket(ipv4(17, 20), 0, 20)).toBe(true);
    expect(
      isWholePacket(
        ipv4(17, 20, (p) => p.fill(0x46, 0, 1)),
        0,
        20,
      ),
    ).toBe(false);
    expect(
      isWholePacket(
        ipv4(17, 20, (p) => p.fill(0x44, 0, 1)),
        0,
        20,
      ),
    ).toBe(false);
    expect(isWholePacket(new Uint8Array(19).fill(0x45), 0, 19)).toBe(false);
    expect(isWholePacket(ipv6(17, 40).subarray(0, 39), 0, 39)).toBe(false);
  });
});
