import { execFileSync } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import koffi from 'koffi';
import { describe, it } from 'vitest';
import { isRoot } from '../../../src/linux/libc.ts';

const library = koffi.load(null);
const unshare = library.func('int unshare(int flags)');
const setns = library.func('int setns(int fd, int type)');
const CLONE_NEWNET = 0x40000000;

/**
 * A network namespace for the test file. Namespaces belong to threads: what the main thread calls, the threads and the programs
 * that it starts are inside; nothing of the machine's own network is touched.
 */
export interface OwnNamespace {
  /** Runs `act` inside. */
  run<Result>(act: () => Result): Result;
  /** Stays inside, for what happens later in the event loop, until `close`. */
  stay(): void;
  /** Runs `ip` inside; parsed when asked for JSON (`-j`). */
  ip(command: string): unknown;
  close(): void;
}

/**
 * `describe` for tests that make namespaces. Without root the body is not even collected, and the reason is printed: a
 * skip without a reason looks like a pass.
 */
export function describeAsRoot(name: string, body: () => void): void {
  if (isRoot()) {
    describe(name, body);
    return;
  }
  process.stderr.write(`skipped: ${name}: network namespaces need root\n`);
  describe.skip(name, () => it('needs root', () => {}));
}

export function createNamespace(): OwnNamespace {
  const home = openSync('/proc/thread-self/ns/net', 'r');
  if (unshare(CLONE_NEWNET) !== 0) throw new Error(`unshare failed with errno ${koffi.errno()}`);
  const inside = openSync('/proc/thread-self/ns/net', 'r');
  enter(home);
  const run = <Result>(act: () => Result): Result => {
    const before = openSync('/proc/thread-self/ns/net', 'r');
    enter(inside);
    try {
      return act();
    } finally {
      enter(before);
      closeSync(before);
    }
  };
  const ip = (command: string): unknown =>
    run(() => {
      const output = execFileSync('ip', command.split(' '), { encoding: 'utf8', stdio: 'pipe' });
      return command.includes('-j') ? JSON.parse(output === '' ? '[]' : output) : output;
    });
  ip('link set lo up');
  return {
    run,
    ip,
    stay: () => enter(inside),
    close() {
      enter(home);
      closeSync(inside);
      closeSync(home);
    },
  };
}

/** A cable between two namespaces. */
export function connect(one: OwnNamespace, device: string, other: OwnNamespace, otherDevice: string): void {
  one.ip(`link add ${device} type veth peer name ${otherDevice}`);
  const name = `mlx-${process.pid}`;
  other.run(() => execFileSync('ip', ['netns', 'attach', name, String(process.pid)]));
  try {
    one.ip(`link set ${otherDevice} netns ${name}`);
  } finally {
    execFileSync('ip', ['netns', 'del', name]);
  }
  one.ip(`link set ${device} up`);
  other.ip(`link set ${otherDevice} up`);
}

function enter(fd: number): void {
  if (setns(fd, CLONE_NEWNET) !== 0) throw new Error(`setns failed with errno ${koffi.errno()}`);
}

/** Polls until `holds`, at most `deadlineMs`. */
export async function until(what: string, holds: () => boolean, deadlineMs = 3000): Promise<void> {
  const end = performance.now() + deadlineMs;
  while (!holds()) {
    if (performance.now() > end) throw new Error(`not within ${deadlineMs} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}
