import { execFileSync } from 'node:child_process';
import { join } from 'node:path';

/**
 * Gives this process's mount namespace an /etc of its own, a copy below `dir`: whoever replaces files there puts others beside
 * them first, which another test may be doing at the same time.
 */
export function haveOwnEtc(dir: string): void {
  execFileSync('cp', ['-a', '/etc', dir]);
  execFileSync('mount', ['--bind', join(dir, 'etc'), '/etc']);
}
