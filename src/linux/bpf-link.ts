import { MooringError } from '../protocol/errors.ts';
import { openPinned, pinBpf } from './bpf-map.ts';
import { ERRNO, errnoName } from './errno.ts';
import { checkBpf, libbpf } from './libbpf.ts';
import { allocate, closeFd } from './libc.ts';

/** `BPF_XDP` of enum bpf_attach_type. */
const ATTACH_XDP = 37;
const FLAG = { generic: 1 << 1, native: 1 << 2 } as const;

/** In the driver, or in the kernel's own receive path after it made a socket buffer. */
export type XdpMode = 'native' | 'generic';

/** A program on an interface. It stays there while the link is open somewhere or pinned. */
export interface XdpLink {
  readonly fd: number;
  /** Puts another program in place of the present one, between two packets. */
  update(programFd: number): void;
  /** Pins it, so that it outlives the process; the folder exists and lies in a bpffs. */
  pin(path: string): void;
  /** Takes the program off the interface, pinned or not. */
  detach(): void;
  /** Closes the descriptor; the program stays on the interface while the link is pinned. */
  close(): void;
}

/**
 * Attaches a program to an interface by a bpf_link (Linux 5.9), so that it cannot be left behind by accident. Throws
 * ERR_MOORING_XDP_ATTACH: another program holds the interface, or it cannot do this mode (`data.errnoName`).
 */
export function attachXdp(programFd: number, ifindex: number, mode: XdpMode): XdpLink {
  const options = allocate(64);
  const view = new DataView(options.buffer);
  view.setBigUint64(0, 64n, true);
  view.setUint32(8, FLAG[mode], true);
  const fd = libbpf().linkCreate(programFd, ifindex, ATTACH_XDP, options);
  if (fd < 0) {
    const held = fd === -ERRNO.EBUSY || fd === -ERRNO.EEXIST;
    throw new MooringError(
      'ERR_MOORING_XDP_ATTACH',
      `XDP in ${mode} mode on interface ${ifindex} failed with ${errnoName(-fd)}; ${
        held ? 'another XDP program is on it: detach that one first' : 'the driver may not support this mode'
      }`,
      { data: { ifindex, mode, errno: -fd, errnoName: errnoName(-fd) } },
    );
  }
  return xdpLink(fd);
}

/** The link that is pinned at `path`; null when nothing is. */
export function openPinnedLink(path: string): XdpLink | null {
  const fd = openPinned(path);
  return fd === null ? null : xdpLink(fd);
}

/** What the kernel says of a link; `ifindex` is 0 when its interface is gone. */
export function linkInfo(fd: number): {
  readonly id: number;
  readonly programId: number;
  readonly ifindex: number;
} {
  const octets = allocate(64);
  const view = new DataView(octets.buffer);
  checkBpf(
    'bpf_obj_get_info_by_fd',
    `link ${fd}`,
    libbpf().objectInfo(fd, octets, Uint8Array.of(64, 0, 0, 0)),
  );
  // struct bpf_link_info: type id prog_id, pad, then of XDP ifindex
  return {
    id: view.getUint32(4, true),
    programId: view.getUint32(8, true),
    ifindex: view.getUint32(16, true),
  };
}

function xdpLink(fd: number): XdpLink {
  let open = true;
  return {
    fd,
    update(programFd) {
      checkBpf('bpf_link_update', `XDP link ${fd}`, libbpf().linkUpdate(fd, programFd, null));
    },
    pin: (path) => pinBpf(fd, path),
    detach() {
      checkBpf('bpf_link_detach', `XDP link ${fd}`, libbpf().linkDetach(fd));
    },
    close() {
      if (!open) return;
      open = false;
      closeFd(fd);
    },
  };
}
