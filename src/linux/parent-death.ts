import { MooringError } from '../protocol/errors.ts';
import { check, libc } from './libc.ts';

const PR_SET_PDEATHSIG = 1;
const SIGKILL = 9;

/**
 * From now on the kernel ends this process by SIGKILL when `parent`, the process that started it, ends; also when this
 * process is stopped or hangs. Throws ERR_MOORING_PARENT_GONE when it has ended already.
 */
export function dieWithParent(parent: number): void {
  check('prctl PR_SET_PDEATHSIG', 'this process', libc.prctl(PR_SET_PDEATHSIG, SIGKILL));
  if (process.ppid === parent) return;
  throw new MooringError('ERR_MOORING_PARENT_GONE', `process ${parent}, which started this one, has ended`);
}
