import { describe, expect, it } from 'vitest';
import { ERRNO, errnoName, syscallError } from '../../../src/linux/errno.ts';
import { MooringError } from '../../../src/protocol/errors.ts';

describe('a failed system call', () => {
  it('names the call, the thing, the errno and the remedy', () => {
    const error = syscallError('bind', 'UDP 192.0.2.1 port 4556', ERRNO.EADDRINUSE);
    expect(error).toBeInstanceOf(MooringError);
    expect(error.code).toBe('ERR_MOORING_SYSCALL');
    expect(error.message).toBe(
      'bind for UDP 192.0.2.1 port 4556 failed with EADDRINUSE; another socket uses this address and port; stop it or choose another port',
    );
    expect(error.data).toEqual({
      call: 'bind',
      object: 'UDP 192.0.2.1 port 4556',
      errno: 98,
      errnoName: 'EADDRINUSE',
    });
  });

  it('is temporary only where waiting helps', () => {
    expect(syscallError('send', 'x', ERRNO.ENOBUFS).temporary).toBe(true);
    expect(syscallError('send', 'x', ERRNO.EPERM).temporary).toBe(false);
  });

  it('has the kernel’s name for every number in use, and says the number of any other', () => {
    for (const [name, number] of Object.entries(ERRNO)) expect(errnoName(number)).toBe(name);
    expect(errnoName(4242)).toBe('errno 4242');
  });
});
