import { randomBytes } from 'node:crypto';
import type { AddressInfo } from 'node:net';
import type { WebSocket } from 'ws';
import type { TokenVerifier } from '../auth/verifier.ts';
import type { Device, EndReason } from '../protocol/lease.ts';
import { monotonicMs } from '../telemetry/clock.ts';
import type { Log } from '../telemetry/log.ts';
import { type DeviceSocket, serveSocket } from './device-socket.ts';
import type { Door, PlaneFor, PoolPolicy, SignallingRegistry } from './door.ts';
import { SIGNALLING_LIMITS, type SignallingLimits } from './limits.ts';
import { createListener, type ListenAddress, requireTls, type TlsFiles } from './listener.ts';
import { createOwners } from './owners.ts';
import { createPresence } from './presence.ts';
import { createUpgrade } from './upgrade.ts';

export interface SignallingOptions {
  readonly listen: ListenAddress;
  readonly tls?: TlsFiles | undefined;
  /** Serve without TLS elsewhere than on loopback, because a proxy in front terminates it. */
  readonly plaintext?: boolean;
  /** Public URL of the door: its path is served, and DPoP proofs name it. */
  readonly url: string;
  readonly registry: SignallingRegistry;
  readonly planeFor: PlaneFor;
  readonly verifier: Pick<TokenVerifier, 'verify'>;
  readonly pools: readonly PoolPolicy[];
  readonly limits?: Partial<SignallingLimits>;
  /** Hears of every answer: what was asked, and the error when it was refused (default: nobody does). */
  readonly answered?: Door['answered'];
  readonly log: Log;
  /** Cryptographically strong octets. */
  readonly random?: (octets: number) => Uint8Array;
  /** Wall clock, milliseconds since 1970. */
  readonly wallMs?: () => number;
}

export interface Signalling {
  /** Starts to listen; resolves with the address bound. */
  listen(): Promise<ListenAddress>;
  /** Tells the device's sockets on this node, if any, that a lease ended without its asking. */
  pushEnded(device: Device, lease: string, reason: EndReason): void;
  /** These are the pools from now on. */
  usePools(policies: readonly PoolPolicy[]): void;
  /** Sockets open now, those before `hello` included. */
  readonly sockets: number;
  /**
   * Takes no new sockets, says `goaway` to the open ones and closes each at a random instant of the next `drainMs`,
   * so that their devices do not reconnect all at once; then stops.
   */
  close(drainMs: number): Promise<void>;
}

/** The device's door `mooring.v1`: WebSockets on an HTTP server that also answers `/healthz`. */
export function createSignalling(options: SignallingOptions): Signalling {
  requireTls(options.listen, options.tls, options.plaintext ?? false);
  const limits = { ...SIGNALLING_LIMITS, ...options.limits };
  const random = options.random ?? randomBytes;
  const presence = createPresence<DeviceSocket>(limits.socketsPerDevice);
  const open = new Map<DeviceSocket, WebSocket>();
  let serving = true;

  const pools = new Map(options.pools.map((pool) => [pool.name, pool]));
  const door: Door = {
    url: options.url,
    verifier: options.verifier,
    registry: options.registry,
    owners: createOwners(options.registry, options.planeFor),
    pools,
    limits,
    answered: options.answered ?? (() => undefined),
    log: options.log,
    random,
    nowMs: monotonicMs,
    wallMs: options.wallMs ?? Date.now,
  };
  const listener = createListener(options.tls, limits, () => serving);
  listener.app.server.on(
    'upgrade',
    createUpgrade({
      path: new URL(options.url).pathname,
      limits,
      serving: () => serving,
      opened(ws, connection) {
        const introduced = () => listener.introduced(connection);
        const socket = serveSocket(ws, { door, presence, introduced });
        open.set(socket, ws);
        ws.once('close', () => open.delete(socket));
      },
    }),
  );

  return {
    async listen() {
      await listener.app.listen({ host: options.listen.host, port: options.listen.port });
      const { address, port } = listener.app.server.address() as AddressInfo;
      options.log.info({ host: address, port, url: options.url }, 'signalling listens');
      return { host: address, port };
    },
    pushEnded(device, lease, reason) {
      for (const socket of presence.of(device)) socket.pushEnded(lease, reason);
    },
    usePools(policies) {
      const names = new Set(policies.map(({ name }) => name));
      for (const name of pools.keys()) if (!names.has(name)) pools.delete(name);
      for (const policy of policies) pools.set(policy.name, policy);
    },
    get sockets() {
      return open.size;
    },
    async close(drainMs) {
      serving = false;
      const departures = [...open].map(([socket, ws]) => depart(socket, ws, drainMs));
      await Promise.all(departures);
      for (const ws of open.values()) ws.terminate();
      await listener.app.close();
    },
  };

  /** Resolves when the socket has closed, at the latest when its time and that of its close frame are over. */
  function depart(socket: DeviceSocket, ws: WebSocket, drainMs: number): Promise<void> {
    socket.goaway(drainMs);
    const jitter = Buffer.from(random(4)).readUInt32BE() / 2 ** 32;
    return new Promise((resolve) => {
      const departure = setTimeout(() => socket.depart(), jitter * drainMs);
      const end = setTimeout(() => ws.terminate(), drainMs + limits.closeTimeoutMs);
      ws.once('close', () => {
        clearTimeout(departure);
        clearTimeout(end);
        resolve();
      });
    });
  }
}
