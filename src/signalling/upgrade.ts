import { type IncomingMessage, STATUS_CODES } from 'node:http';
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { type WebSocket, WebSocketServer } from 'ws';
import { SUBPROTOCOL } from '../protocol/signalling.ts';
import type { SignallingLimits } from './limits.ts';

interface Upgrading {
  /** Path of the door. */
  readonly path: string;
  readonly limits: SignallingLimits;
  readonly serving: () => boolean;
  readonly opened: (ws: WebSocket, connection: Socket) => void;
}

/** Turns an HTTP upgrade into a socket of `mooring.v1`, or refuses it with a status and a reason. */
export function createUpgrade({ path, limits, serving, opened }: Upgrading) {
  const server = new WebSocketServer({
    noServer: true,
    clientTracking: false,
    perMessageDeflate: false,
    maxPayload: limits.maxFrameBytes,
    // A frame may come in pieces, but not in so many that keeping account of them costs more than the frame.
    ...{
      maxFragments: 64,
      maxBufferedChunks: 256,
      maxPendingAutoPongs: 8,
      closeTimeout: limits.closeTimeoutMs,
    },
    handleProtocols: () => SUBPROTOCOL,
  });
  return (request: IncomingMessage, connection: Duplex, head: Buffer): void => {
    connection.on('error', () => connection.destroy());
    if (!serving()) {
      refuse(connection, 503, 'this node is going away; use another one');
      return;
    }
    const [requested] = (request.url ?? '').split('?');
    if (requested !== path) {
      refuse(connection, 404, `the door is at ${path}`);
      return;
    }
    const offered = (request.headers['sec-websocket-protocol'] ?? '').split(',').map((name) => name.trim());
    if (!offered.includes(SUBPROTOCOL)) {
      refuse(connection, 400, `offer ${SUBPROTOCOL} in Sec-WebSocket-Protocol`);
      return;
    }
    server.handleUpgrade(request, connection, head, (ws) => opened(ws, request.socket));
  };
}

function refuse(connection: Duplex, status: number, reason: string): void {
  connection.once('finish', () => connection.destroy());
  connection.end(
    `HTTP/1.1 ${status} ${STATUS_CODES[status]}\r\nConnection: close\r\nContent-Type: text/plain\r\n` +
      `Content-Length: ${Buffer.byteLength(reason)}\r\n\r\n${reason}`,
  );
}
