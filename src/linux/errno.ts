import { constants } from 'node:os';
import koffi from 'koffi';
import { MooringError } from '../protocol/errors.ts';

export const ERRNO = {
  EPERM: 1,
  ENOENT: 2,
  ESRCH: 3,
  EINTR: 4,
  EIO: 5,
  ENXIO: 6,
  EBADF: 9,
  EAGAIN: 11,
  ENOMEM: 12,
  EACCES: 13,
  EBUSY: 16,
  EEXIST: 17,
  ENODEV: 19,
  EINVAL: 22,
  EMFILE: 24,
  EBADFD: 77,
  EMSGSIZE: 90,
  ENOPROTOOPT: 92,
  EOPNOTSUPP: 95,
  EAFNOSUPPORT: 97,
  EADDRINUSE: 98,
  EADDRNOTAVAIL: 99,
  ENETDOWN: 100,
  ENETUNREACH: 101,
  ENOBUFS: 105,
} as const;

/** Two names may share a number (ENOTSUP, EOPNOTSUPP): those above are the ones that the kernel's pages use. */
const NAMES = new Map<number, string>();
for (const [name, number] of [
  ...Object.entries(ERRNO),
  ...Object.entries(koffi.os.errno),
  ...Object.entries(constants.errno),
]) {
  if (!NAMES.has(number)) NAMES.set(number, name);
}

const REMEDIES: Readonly<Record<string, string>> = {
  EPERM: 'run as root or grant CAP_NET_ADMIN and CAP_NET_RAW',
  EACCES: 'run as root or grant CAP_NET_ADMIN and CAP_NET_RAW',
  ENOENT: 'check that the kernel feature or file exists on this machine',
  ENODEV: 'check that the network device exists',
  ENXIO: 'check that the network device exists',
  EBUSY: 'another process holds it; stop that process first',
  EEXIST: 'it exists already; remove it or choose another name',
  EADDRINUSE: 'another socket uses this address and port; stop it or choose another port',
  EADDRNOTAVAIL: 'the address is not on this machine; configure it or use the wildcard address',
  EMFILE: 'raise the limit of open files (LimitNOFILE)',
  ENETUNREACH: 'check addresses and routes',
  ENETDOWN: 'bring the network device up',
  EAFNOSUPPORT: 'the kernel lacks this address family (is IPv6 disabled?)',
  EOPNOTSUPP: 'this kernel does not support it',
  ENOPROTOOPT: 'this kernel does not support it',
  ENOBUFS: 'the kernel is short of buffers; raise net.core.rmem_max and wmem_max',
};

/** `EADDRINUSE` for 98; `errno 4242` where there is no name. */
export function errnoName(errno: number): string {
  return NAMES.get(errno) ?? `errno ${errno}`;
}

/** errno of the last failed libc call of this thread. */
export function lastErrno(): number {
  return koffi.errno();
}

/**
 * ERR_MOORING_SYSCALL: `call` is the libc or netlink verb, `object` what it was about, `remedy` what to do
 * (a default by errno otherwise). `data` carries `call`, `errno` (number) and `errnoName`.
 */
export function syscallError(call: string, object: string, errno: number, remedy?: string): MooringError {
  const name = errnoName(errno);
  const advice = remedy ?? REMEDIES[name] ?? 'check the arguments and the kernel log';
  return new MooringError('ERR_MOORING_SYSCALL', `${call} for ${object} failed with ${name}; ${advice}`, {
    temporary: errno === ERRNO.EAGAIN || errno === ERRNO.ENOBUFS || errno === ERRNO.ENOMEM,
    data: { call, object, errno, errnoName: name },
  });
}
