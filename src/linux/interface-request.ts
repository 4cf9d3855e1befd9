import { badInput } from '../protocol/errors.ts';
import { allocate, check, closeFd, libc } from './libc.ts';

/** `struct ifreq`: 16 octets of name, then a union. */
const IFREQ_BYTES = 40;
const VALUE_AT = 16;

const AF_INET = 2;
const SOCK_DGRAM = 2;
const SOCK_CLOEXEC = 0x80000;

const SIOCGIFFLAGS = 0x8913;
const SIOCSIFFLAGS = 0x8914;
const SIOCSIFMTU = 0x8922;
const SIOCSIFTXQLEN = 0x8943;
const IFF_UP = 1;

/** An `ifreq` for `device` with its first 16-bit value; ERR_MOORING_BAD_INPUT for a name the kernel refuses. */
export function interfaceRequest(device: string, flags = 0): Uint8Array {
  if (!/^[^\s/:%]{1,15}$/.test(device) || device === '.' || device === '..') {
    throw badInput('device', device, 'use 1 to 15 characters without blanks, "/", ":" or "%"');
  }
  const request = allocate(IFREQ_BYTES);
  const name = Buffer.from(device, 'utf8');
  if (name.length > 15) throw badInput('device', device, 'use at most 15 octets');
  request.set(name);
  new DataView(request.buffer).setUint16(VALUE_AT, flags, true);
  return request;
}

/** Sets MTU and, where given, queue length, and brings the device up. */
export function configureInterface(device: string, mtu: number, queuePackets?: number): void {
  const socket = check(
    'socket',
    'interface configuration',
    libc.socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0),
  );
  try {
    control(socket, device, SIOCSIFMTU, `MTU ${mtu} of ${device}`, mtu);
    if (queuePackets !== undefined) {
      control(socket, device, SIOCSIFTXQLEN, `queue length ${queuePackets} of ${device}`, queuePackets);
    }
    const flags = control(socket, device, SIOCGIFFLAGS, `flags of ${device}`);
    const now = new DataView(flags.buffer).getUint16(VALUE_AT, true);
    control(socket, device, SIOCSIFFLAGS, `bringing ${device} up`, now | IFF_UP);
  } finally {
    closeFd(socket);
  }
}

function control(
  socket: number,
  device: string,
  request: number,
  object: string,
  value?: number,
): Uint8Array {
  const memory = interfaceRequest(device);
  if (value !== undefined) new DataView(memory.buffer).setInt32(VALUE_AT, value, true);
  check('ioctl', object, libc.ioctl(socket, request, memory));
  return memory;
}
