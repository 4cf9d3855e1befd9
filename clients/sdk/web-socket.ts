/** The part of the WebSocket API that the sdk uses; browsers' and ws's sockets both have it. */
export interface WebSocketLike {
  addEventListener(type: 'message', listener: (event: { readonly data: unknown }) => void): void;
  addEventListener(
    type: 'close',
    listener: (event: { readonly code: number; readonly reason: string }) => void,
  ): void;
  addEventListener(type: 'error', listener: (event: { readonly message?: string }) => void): void;
  send(data: string): void;
  close(code?: number, reason?: string): void;
}

/** Opens a socket; errors are told by its events. */
export type Connect = (url: string, subprotocol: string) => WebSocketLike;
