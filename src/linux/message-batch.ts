import { SOCKADDR_BYTES } from './address-book.ts';
import { allocate, memoryAddress } from './libc.ts';

/*
 * `struct mmsghdr[]` and what it points to, laid out in plain memory once per socket. 64-bit little-endian Linux,
 * where x86-64 and arm64 agree:
 *
 *   mmsghdr (64): msg_name 0 · msg_namelen 8 · msg_iov 16 · msg_iovlen 24 · msg_control 32 ·
 *                 msg_controllen 40 · msg_flags 48 · msg_len 56
 *   iovec   (16): iov_base 0 · iov_len 8
 *   cmsghdr (16): cmsg_len 0 · cmsg_level 8 · cmsg_type 12 · data 16, the whole padded to 8
 */
export const MMSGHDR_BYTES = 64;
export const NAMELEN_AT = 8;
export const IOV_AT = 16;
export const IOVLEN_AT = 24;
export const CONTROL_AT = 32;
export const CONTROLLEN_AT = 40;
export const FLAGS_AT = 48;
export const LEN_AT = 56;
export const IOVEC_BYTES = 16;
export const CMSG_HEADER_BYTES = 16;

/** Room for `in6_pktinfo` (40), traffic class (24) and segment size (24), and one more that the kernel may add. */
export const CONTROL_BYTES = 128;
const NAME_BYTES = 32;

/** Memory for `slots` datagrams of one recvmmsg or sendmmsg. */
export interface MessageBatch {
  readonly slots: number;
  /** Where datagrams lie: slot i starts at `slotAt(i)`, with `headroom` octets of its own in front. */
  readonly arena: Uint8Array;
  readonly headroom: number;
  readonly payloadBytes: number;
  slotAt(slot: number): number;
  /** Address of `arena` for the kernel. */
  readonly arenaAddress: number;
  /** Address of the `mmsghdr` array for the kernel. */
  readonly headersAddress: number;
  readonly headers: DataView;
  readonly vectors: DataView;
  readonly names: DataView;
  readonly nameOctets: Uint8Array;
  readonly controls: DataView;
  nameAt(slot: number): number;
  controlAt(slot: number): number;
}

export function createMessageBatch(slots: number, payloadBytes: number, headroom: number): MessageBatch {
  const stride = (headroom + payloadBytes + 63) & ~63;
  const arena = allocate(slots * stride);
  const headers = allocate(slots * MMSGHDR_BYTES);
  const vectors = allocate(slots * IOVEC_BYTES);
  const names = allocate(slots * NAME_BYTES);
  const controls = allocate(slots * CONTROL_BYTES);

  const headersView = new DataView(headers.buffer);
  const vectorsView = new DataView(vectors.buffer);
  const [arenaBase, vectorsBase, namesBase, controlsBase] = [arena, vectors, names, controls].map((memory) =>
    memoryAddress(memory),
  ) as [number, number, number, number];
  for (let slot = 0; slot < slots; slot += 1) {
    const at = slot * MMSGHDR_BYTES;
    headersView.setBigUint64(at, BigInt(namesBase + slot * NAME_BYTES), true);
    headersView.setUint32(at + NAMELEN_AT, SOCKADDR_BYTES, true);
    headersView.setBigUint64(at + IOV_AT, BigInt(vectorsBase + slot * IOVEC_BYTES), true);
    headersView.setUint32(at + IOVLEN_AT, 1, true);
    headersView.setBigUint64(at + CONTROL_AT, BigInt(controlsBase + slot * CONTROL_BYTES), true);
    vectorsView.setBigUint64(slot * IOVEC_BYTES, BigInt(arenaBase + slot * stride + headroom), true);
    vectorsView.setUint32(slot * IOVEC_BYTES + 8, payloadBytes, true);
  }
  return {
    slots,
    arena,
    headroom,
    payloadBytes,
    arenaAddress: arenaBase,
    slotAt: (slot) => slot * stride + headroom,
    headersAddress: memoryAddress(headers),
    headers: headersView,
    vectors: vectorsView,
    names: new DataView(names.buffer),
    nameOctets: names,
    controls: new DataView(controls.buffer),
    nameAt: (slot) => slot * NAME_BYTES,
    controlAt: (slot) => slot * CONTROL_BYTES,
  };
}
