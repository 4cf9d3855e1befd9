import type { SocketAddress } from '../../src/protocol/address.ts';
import type { TunnelMarking } from '../../src/tunnel/dscp-ecn.ts';
import type { OldPath } from '../../src/tunnel/wire.ts';
import type { DeviceSessionEvent, DeviceSessionStatus } from '../sdk/session.ts';

/** What the packet worker is started with. */
export interface PacketSettings {
  readonly root: Uint8Array;
  readonly index: number;
  readonly boot: bigint;
  readonly addresses: readonly string[];
  readonly tun: string;
  readonly mtu: number;
  readonly marking: TunnelMarking;
}

/** A tunnel socket's place: one access interface, one address family. */
export interface TunnelLink {
  /** Interface name. */
  readonly id: string;
  /** Changes when an interface of the same name is another one. */
  readonly ifindex: number;
  readonly endpoint: SocketAddress;
}

export type ToPacketWorker =
  | { readonly op: 'use'; readonly link: TunnelLink; readonly oldPath: OldPath }
  /** Ask over this link how well it works; opens a socket on it if there is none. */
  | { readonly op: 'probe'; readonly link: TunnelLink; readonly id: number }
  | { readonly op: 'link-gone'; readonly id: string }
  | { readonly op: 'leaving' }
  | { readonly op: 'status'; readonly request: number };

export type FromPacketWorker =
  | { readonly type: 'ready' }
  | { readonly type: 'event'; readonly event: DeviceSessionEvent }
  | { readonly type: 'link-failed'; readonly link: string; readonly message: string }
  | {
      readonly type: 'signal';
      readonly link: string;
      readonly datagram: Uint8Array;
      readonly localPort: number;
    }
  | {
      readonly type: 'status';
      readonly request: number;
      readonly session: DeviceSessionStatus;
      /** Of all tunnel sockets: datagrams that the kernel refused, by errno. */
      readonly sendErrors: Readonly<Record<string, number>>;
    };
