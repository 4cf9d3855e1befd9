import { readdirSync, readFileSync } from 'node:fs';

/**
 * Processor time of all threads of a running process, user and kernel, in milliseconds. From the scheduler's own sums
 * (/proc/PID/task/…/schedstat, nanoseconds): windows of a second are too short for the 10 ms of /proc/PID/stat. A thread
 * that ended takes its time along, so only compare readings between which none ends.
 */
export function threadsMs(pid: number): number {
  let nanoseconds = 0;
  for (const thread of readdirSync(`/proc/${pid}/task`)) {
    const [onCpu = '0'] = readFileSync(`/proc/${pid}/task/${thread}/schedstat`, 'utf8').split(' ');
    nanoseconds += Number(onCpu);
  }
  return nanoseconds / 1e6;
}
