import koffi from 'koffi';
import { lastErrno, syscallError } from './errno.ts';
import { allocate, permanentAddress } from './libc.ts';

const CLOCK_BOOTTIME = 7;

const clockGettime = koffi.load(null).func('clock_gettime', 'int', ['int', 'uintptr_t']) as (
  clock: number,
  into: number,
) => number;

const time = allocate(16);
const timeAt = permanentAddress(time);
const view = new DataView(time.buffer);

/** Nanoseconds since the machine started, time in suspension included: the clock that BPF programs read. */
export function bootTimeNs(): bigint {
  if (clockGettime(CLOCK_BOOTTIME, timeAt) < 0) {
    throw syscallError('clock_gettime', 'the boottime clock', lastErrno());
  }
  return view.getBigInt64(0, true) * 1_000_000_000n + view.getBigInt64(8, true);
}
