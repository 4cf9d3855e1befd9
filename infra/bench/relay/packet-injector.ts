/** Puts whole Ethernet frames on an interface of this network namespace, from a processor of one's choice. */
import { readdirSync, readFileSync } from 'node:fs';
import koffi from 'koffi';
import { allocate, check, closeFd, interfaceIndex, libc, setSocketOption } from '../../../src/linux/libc.ts';

const AF_PACKET = 17;
const SOCK_RAW_CLOEXEC = 0x80003;
const ETH_P_IP_BE = 0x0008;
const SOL_SOCKET = 1;
const SO_SNDBUFFORCE = 32;
const SEND_BUFFER_OCTETS = 8 << 20;

const affinity = koffi.load(null).func('int sched_setaffinity(int pid, size_t size, void *mask)') as (
  pid: number,
  size: number,
  mask: Uint8Array,
) => number;

/** Binds a thread (0: this very one) to a set of processors. */
export function runOn(processors: readonly number[], thread = 0): void {
  const mask = allocate(128);
  for (const processor of processors) mask[processor >> 3]! |= 1 << (processor & 7);
  check('sched_setaffinity', `processors ${processors.join(', ')}`, affinity(thread, mask.length, mask));
}

/**
 * Binds the threads that poll veth devices of these names, each device with two queues, so that the first queue is the first
 * processor's and the second the second's. Without that a processor that happens to poll the other's queue draws all
 * packets to itself, for good.
 */
export function bindPolling(devices: readonly string[]): void {
  const ids: { id: number; thread: number }[] = [];
  for (const thread of readdirSync('/proc').map(Number).filter(Number.isInteger)) {
    const [, device = '', id] = /^napi\/(.+)-(\d+)$/.exec(nameOf(thread)) ?? [];
    if (devices.includes(device)) ids.push({ id: Number(id), thread });
  }
  // The queues of a device are numbered one after the other.
  ids.sort((one, other) => one.id - other.id);
  for (const [i, { thread }] of ids.entries()) runOn([i & 1], thread);
}

function nameOf(thread: number): string {
  try {
    return readFileSync(`/proc/${thread}/comm`, 'utf8').trim();
  } catch {
    return ''; // It ended meanwhile.
  }
}

export function injectFrames(device: string, frames: readonly Uint8Array[]): void {
  const object = `packet socket on ${device}`;
  const fd = check('socket', object, libc.socket(AF_PACKET, SOCK_RAW_CLOEXEC, 0));
  try {
    // struct sockaddr_ll: family, protocol, ifindex, …
    const address = allocate(20);
    const view = new DataView(address.buffer);
    view.setUint16(0, AF_PACKET, true);
    view.setUint16(2, ETH_P_IP_BE, true);
    view.setInt32(4, interfaceIndex(device), true);
    view.setUint8(11, 6);
    // In generic mode what circles stays on the account of this socket.
    setSocketOption(fd, SOL_SOCKET, SO_SNDBUFFORCE, SEND_BUFFER_OCTETS, object);
    for (const frame of frames) {
      check('sendto', object, libc.sendto(fd, frame, frame.length, 0, address, address.length));
    }
  } finally {
    closeFd(fd);
  }
}
