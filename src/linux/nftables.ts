import { spawnSync } from 'node:child_process';
import { MooringError } from '../protocol/errors.ts';

const TIMEOUT_MS = 10_000;
/** `nft` lives in sbin, which a user's PATH may leave out. */
const PATH = `${process.env.PATH ?? ''}:/usr/sbin:/sbin`;

/**
 * Puts a table of family `inet` in the place of the one of that name, in one transaction: no packet sees neither.
 * `rules` is what stands between the braces, in nft's own language. Throws ERR_MOORING_NFTABLES.
 */
export function replaceTable(name: string, rules: string): void {
  const text = `table inet ${name}\ndelete table inet ${name}\ntable inet ${name} {\n${rules}}\n`;
  nft(`table inet ${name}`, ['-f', '-'], text);
}

export function hasTable(name: string): boolean {
  return nft('tables', ['list', 'tables', 'inet']).split('\n').includes(`table inet ${name}`);
}

/** Removes the table; one that is not there is fine. */
export function removeTable(name: string): void {
  nft(`table inet ${name}`, ['-f', '-'], `table inet ${name}\ndelete table inet ${name}\n`);
}

function nft(what: string, args: readonly string[], input = ''): string {
  const { error, status, stdout, stderr } = spawnSync('nft', args, {
    input,
    encoding: 'utf8',
    timeout: TIMEOUT_MS,
    env: { ...process.env, PATH },
  });
  if (error !== undefined) {
    throw new MooringError(
      'ERR_MOORING_NFTABLES',
      `nft cannot be run (${error.message}); install the package nftables`,
      { cause: error },
    );
  }
  if (status !== 0) {
    throw new MooringError(
      'ERR_MOORING_NFTABLES',
      `${what}: nft says ${JSON.stringify(stderr.trim())}; it needs CAP_NET_ADMIN and a kernel with nf_tables`,
    );
  }
  return stdout;
}
