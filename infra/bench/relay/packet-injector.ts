/** Puts whole Ethernet frames on an interface of this network namespace, from a processor of one's choice. */
import koffi from 'koffi';
import { allocate, check, closeFd, interfaceIndex, libc } from '../../../src/linux/libc.ts';

const AF_PACKET = 17;
const SOCK_RAW_CLOEXEC = 0x80003;
const ETH_P_IP_BE = 0x0008;

const affinity = koffi.load(null).func('int sched_setaffinity(int pid, size_t size, void *mask)') as (
  pid: number,
  size: number,
  mask: Uint8Array,
) => number;

/** Binds this very thread to a set of processors. */
export function runOn(processors: readonly number[]): void {
  const mask = allocate(128);
  for (const processor of processors) mask[processor >> 3]! |= 1 << (processor & 7);
  check('sched_setaffinity', `processors ${processors.join(', ')}`, affinity(0, mask.length, mask));
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
    for (const frame of frames) {
      check('sendto', object, libc.sendto(fd, frame, frame.length, 0, address, address.length));
    }
  } finally {
    closeFd(fd);
  }
}
