import koffi from 'koffi';
import { syscallError } from './errno.ts';

/** membarrier(2) by number: libc has no function for it. */
const MEMBARRIER = process.arch === 'x64' ? 324 : 283;
const GLOBAL = 1;

const syscall = koffi.load(null).func('syscall', 'long', ['long', 'int', 'int', 'int']);

/**
 * Calls `then` after every BPF program that runs now has ended, on every CPU: what such a program may still read can be
 * used anew afterwards. The wait (some 10 ms) takes place in another thread; `then` comes from Node's event loop.
 * MEMBARRIER_CMD_GLOBAL is the kernel's synchronize_rcu.
 */
export function afterGracePeriod(then: (error: Error | null) => void): void {
  syscall.async(MEMBARRIER, GLOBAL, 0, 0, (error: Error | null, result: number) => {
    then(error ?? (result < 0 ? syscallError('membarrier', 'BPF programs', koffi.errno()) : null));
  });
}

/** The same, waited for: for threads that never come back to the event loop but may stand still, and for tests. */
export function waitGracePeriod(): void {
  const result = Number(syscall(MEMBARRIER, GLOBAL, 0, 0));
  if (result < 0) throw syscallError('membarrier', 'BPF programs', koffi.errno());
}
