import { mkdirSync, statfsSync } from 'node:fs';
import koffi from 'koffi';
import { lastErrno, syscallError } from './errno.ts';

const BPF_FS_MAGIC = 0xcafe4a11;

const mount = koffi
  .load(null)
  .func(
    'int mount(const char *source, const char *target, const char *type, unsigned long flags, void *data)',
  ) as (source: string, target: string, type: string, flags: number, data: null) => number;

/** True when `folder` lies in a bpffs. */
export function isBpffs(folder: string): boolean {
  try {
    return statfsSync(folder).type === BPF_FS_MAGIC;
  } catch {
    return false;
  }
}

/**
 * Makes `folder` a bpffs unless it is one: what is pinned there outlives the process. `mounted`: it was not, and is one
 * from now on in this process's mount namespace; a namespace of its own ends with its last process, and the pins do.
 */
export function ensureBpffs(folder: string): 'there' | 'mounted' {
  if (isBpffs(folder)) return 'there';
  mkdirSync(folder, { recursive: true });
  if (mount('bpf', folder, 'bpf', 0, null) < 0) {
    throw syscallError(
      'mount',
      `bpffs on ${folder}`,
      lastErrno(),
      'mount it before: mount -t bpf bpf FOLDER',
    );
  }
  return 'mounted';
}
