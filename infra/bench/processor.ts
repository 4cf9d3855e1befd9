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

/** The process that a process started, by its id: the one that works under a supervisor. @throws Error unless there is one */
export function onlyChildOf(pid: number): number {
  const children = readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .filter((other) => {
      try {
        const stat = readFileSync(`/proc/${other}/stat`, 'utf8');
        const [, parent] = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
        return Number(parent) === pid;
      } catch {
        // Ended meanwhile.
        return false;
      }
    });
  if (children.length !== 1) throw new Error(`process ${pid} has ${children.length} children; expected one`);
  return children[0]!;
}
