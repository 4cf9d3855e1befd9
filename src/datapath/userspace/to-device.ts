import type { SocketAddress } from '../../protocol/address.ts';

/**
 * Sends a tunnel datagram from the endpoint address `endpoint` to a device; `octet` holds the outer DSCP and ECN. The buffer is
 * lent until the call returns.
 */
export type ToDevice = (
  endpoint: string,
  to: SocketAddress,
  buffer: Uint8Array,
  at: number,
  length: number,
  octet: number,
) => void;
