/** Whole Ethernet frames for the closed loop and for programs that run without an interface. */
import { sealData } from '../../../src/tunnel/data.ts';
import { sipKey } from '../../../src/tunnel/siphash.ts';
import { DATA } from '../../../src/tunnel/wire.ts';
import { type Flow, IPV4_HEADER, innerPacket, UDP_HEADER } from './packets.ts';

const ETHERNET = 14;

export interface FrameAddresses {
  readonly to: Uint8Array;
  readonly from: Uint8Array;
}

export function plainFrame({ to, from }: FrameAddresses, packet: Uint8Array): Uint8Array {
  const frame = new Uint8Array(ETHERNET + packet.length);
  frame.set(to, 0);
  frame.set(from, 6);
  frame.set([0x08, 0x00], 12);
  frame.set(packet, ETHERNET);
  return frame;
}

export interface TunnelledFrame {
  readonly frame: FrameAddresses;
  readonly from: { readonly address: string; readonly port: number };
  readonly to: { readonly address: string; readonly port: number };
  readonly key: Uint8Array;
  readonly keyNumber: number;
  readonly index: number;
  readonly sequence: number;
  readonly inner: Uint8Array;
}

/** A datagram of DATA in lane 0, in its frame. */
export function tunnelledFrame(of: TunnelledFrame): Uint8Array {
  const outer: Flow = {
    traffic: 'udp',
    source: of.from.address,
    destination: of.to.address,
    sourcePort: of.from.port,
    destinationPort: of.to.port,
    spi: 0,
  };
  const packet = innerPacket(outer, IPV4_HEADER + UDP_HEADER + DATA.inner + of.inner.length);
  const at = IPV4_HEADER + UDP_HEADER;
  packet.set(of.inner, at + DATA.inner);
  const { index, keyNumber, sequence } = of;
  sealData(sipKey(of.key), { index, keyNumber, lane: 0, sequence }, packet, at, of.inner.length);
  return plainFrame(of.frame, packet);
}
