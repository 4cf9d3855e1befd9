import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';

/** Why the packet thread cannot run here; false when it can. */
export const withoutNamespaces: string | false = missing();

function missing(): string | false {
  if (process.getuid?.() !== 0) return 'needs root: TUN devices and network namespaces';
  if (!existsSync('/dev/net/tun')) return 'needs /dev/net/tun';
  const tried = spawnSync('unshare', ['--net', 'true'], { timeout: 10_000 });
  return tried.status === 0 ? false : 'needs network namespaces (unshare --net failed)';
}
