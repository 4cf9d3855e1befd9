import { hasClang } from '../../infra/build/xdp.ts';
import { isRoot } from '../../src/linux/libc.ts';

/** Why XDP cannot be compiled or loaded here; null when it can. */
export const XDP_IS_MISSING = isRoot()
  ? hasClang()
    ? null
    : 'needs clang to compile the XDP program'
  : 'needs root to load XDP';
