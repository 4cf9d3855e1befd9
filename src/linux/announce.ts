import { parseAddress } from '../protocol/address.ts';
import { badInput } from '../protocol/errors.ts';
import { listAddresses } from './addresses.ts';
import { allocate, check, closeFd, interfaceIndex, libc } from './libc.ts';
import { listLinks } from './links.ts';
import { viewOf } from './netlink-message.ts';

const AF_PACKET = 17;
const SOCK_RAW = 3;
const SOCK_CLOEXEC = 0x80000;

const ETHERTYPE_ARP = 0x0806;
const ETHERTYPE_IPV6 = 0x86dd;
const ETHERNET_BYTES = 14;
const BROADCAST = Uint8Array.of(0xff, 0xff, 0xff, 0xff, 0xff, 0xff);
/** Ethernet group of ff02::1, all nodes (RFC 2464 §7). */
const ALL_NODES_MAC = Uint8Array.of(0x33, 0x33, 0, 0, 0, 1);
const ALL_NODES = parseAddress('ff02::1');

const NEXT_HEADER_ICMPV6 = 58;
const NEIGHBOUR_ADVERTISEMENT = 136;
const FLAG_ROUTER = 0x80000000;
const FLAG_OVERRIDE = 0x20000000;

export interface Announcements {
  /**
   * Tells the neighbours on `device` that these addresses are to be found here: gratuitous ARP, as request and
   * as reply since receivers differ in which they heed (RFC 5227 §3), and unsolicited neighbour advertisements with the
   * override flag (RFC 4861 §7.2.6). Hearing one is not certain: announce again after a second. Throws
   * ERR_MOORING_SYSCALL, and ERR_MOORING_BAD_INPUT for a device without an Ethernet address.
   */
  announce(device: string, addresses: readonly string[]): void;
  /** Waits, with the thread, until the kernel lets go of the socket: tens of milliseconds. */
  close(): void;
}

/** Opens a socket for the announcements of a process: to close one after each would take longer than all else of a takeover. */
export function openAnnouncements(): Announcements {
  // Protocol 0: this socket receives nothing.
  const fd = check('socket AF_PACKET', 'announcing', libc.socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0));
  return {
    announce(device, addresses) {
      const { ifindex, frames } = announcing(device, addresses);
      sendFrames(fd, device, ifindex, frames);
    },
    close: () => closeFd(fd),
  };
}

function announcing(device: string, addresses: readonly string[]) {
  const ifindex = interfaceIndex(device);
  const mac = listLinks().find((link) => link.ifindex === ifindex)?.mac ?? new Uint8Array(0);
  if (mac.length !== 6) throw badInput('device', device, 'announce on a device with an Ethernet address');
  const linkLocal = listAddresses(device).find(
    (found) => found.scope === 'link' && found.usable && found.address.includes(':'),
  );
  const frames = addresses.flatMap((text) => {
    const octets = parseAddress(text);
    return octets.length === 4
      ? [gratuitousArp(mac, octets, 1), gratuitousArp(mac, octets, 2)]
      : [advertisement(mac, octets, linkLocal === undefined ? octets : parseAddress(linkLocal.address))];
  });
  return { ifindex, frames };
}

function sendFrames(fd: number, device: string, ifindex: number, frames: readonly Uint8Array[]): void {
  // sockaddr_ll (20): family 0 · protocol 2 · ifindex 4 · …
  const address = allocate(20);
  viewOf(address).setUint16(0, AF_PACKET, true);
  viewOf(address).setInt32(4, ifindex, true);
  for (const frame of frames) {
    check(
      'sendto',
      `announcing on ${device}`,
      libc.sendto(fd, frame, frame.length, 0, address, address.length),
    );
  }
}

/** An ARP packet (RFC 826) whose sender and target are both the announced address; 1 asks, 2 answers. */
export function gratuitousArp(mac: Uint8Array, address: Uint8Array, operation: 1 | 2): Uint8Array {
  const frame = ethernet(BROADCAST, mac, ETHERTYPE_ARP, 28);
  const view = viewOf(frame);
  view.setUint16(ETHERNET_BYTES, 1);
  view.setUint16(ETHERNET_BYTES + 2, 0x0800);
  frame[ETHERNET_BYTES + 4] = 6;
  frame[ETHERNET_BYTES + 5] = 4;
  view.setUint16(ETHERNET_BYTES + 6, operation);
  frame.set(mac, ETHERNET_BYTES + 8);
  frame.set(address, ETHERNET_BYTES + 14);
  if (operation === 2) frame.set(mac, ETHERNET_BYTES + 18);
  frame.set(address, ETHERNET_BYTES + 24);
  return frame;
}

/**
 * An unsolicited neighbour advertisement to all nodes. `source` is the device's own link-local address where
 * there is one: the announced address itself belongs to nobody on this machine.
 */
export function advertisement(mac: Uint8Array, target: Uint8Array, source: Uint8Array): Uint8Array {
  const icmpBytes = 32;
  const frame = ethernet(ALL_NODES_MAC, mac, ETHERTYPE_IPV6, 40 + icmpBytes);
  const view = viewOf(frame);
  const ip = ETHERNET_BYTES;
  view.setUint32(ip, 0x60000000);
  view.setUint16(ip + 4, icmpBytes);
  frame[ip + 6] = NEXT_HEADER_ICMPV6;
  // Receivers take neighbour discovery only with the hop limit that no router lets through.
  frame[ip + 7] = 255;
  frame.set(source, ip + 8);
  frame.set(ALL_NODES, ip + 24);
  const icmp = ip + 40;
  frame[icmp] = NEIGHBOUR_ADVERTISEMENT;
  view.setUint32(icmp + 4, (FLAG_ROUTER | FLAG_OVERRIDE) >>> 0);
  frame.set(target, icmp + 8);
  // Option 2, target link-layer address, in units of 8 octets.
  frame[icmp + 24] = 2;
  frame[icmp + 25] = 1;
  frame.set(mac, icmp + 26);
  view.setUint16(icmp + 2, checksum(frame.subarray(ip), icmpBytes));
  return frame;
}

function ethernet(to: Uint8Array, from: Uint8Array, type: number, payloadBytes: number): Uint8Array {
  const frame = allocate(ETHERNET_BYTES + payloadBytes);
  frame.set(to);
  frame.set(from, 6);
  viewOf(frame).setUint16(12, type);
  return frame;
}

/** Internet checksum of an ICMPv6 message with its pseudo-header (RFC 8200 §8.1); `packet` starts at the IPv6 header. */
function checksum(packet: Uint8Array, icmpBytes: number): number {
  const view = viewOf(packet);
  let sum = icmpBytes + NEXT_HEADER_ICMPV6;
  for (let at = 8; at < 40 + icmpBytes; at += 2) sum += view.getUint16(at);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return ~sum & 0xffff;
}
