import Type, { type Static, type TSchema } from 'typebox';
import { Device, EndReason, Lease, LeaseKind, Remote } from './lease.ts';
import { SealingKey, Tunnel } from './relay-plane.ts';

/** WebSocket subprotocol of the device's door. */
export const SUBPROTOCOL = 'mooring.v1';

/** Request ids are chosen by the client and echoed; unique among its outstanding requests. */
const Id = Type.Integer({ minimum: 1, maximum: Number.MAX_SAFE_INTEGER });
const LeaseId = Lease.properties.id;
const LeaseMs = Type.Integer({ minimum: 1_000, maximum: 366 * 86_400_000 });

const request = <T extends string, P extends Record<string, TSchema>>(type: T, properties: P) =>
  Type.Object({ type: Type.Literal(type), id: Id, ...properties }, { additionalProperties: false });

/** Resources that a device would like to have: those it had before, or those that its peers know. */
export const Wished = Type.Object(
  {
    address: Type.Optional(Type.String({ maxLength: 45 })),
    /** One of the ports wished for: the block that holds it is leased. */
    port: Type.Optional(Type.Integer({ minimum: 1, maximum: 65535 })),
    /** One of the SPIs wished for. */
    spi: Type.Optional(Type.Integer({ minimum: 1, maximum: 0xffffffff })),
  },
  { additionalProperties: false },
);
export type Wished = Static<typeof Wished>;

/** Frames from the device. The first one must be `hello`, and there is exactly one a socket. */
export const Request = {
  hello: request('hello', {
    /** DPoP-bound access token (RFC 9449 §6). */
    token: Type.String({ minLength: 16, maxLength: 8192 }),
    /**
     * DPoP proof: htm `GET`, htu the signalling URL of `welcome`, ath, the nonce of `welcome`, and the claim
     * `seal`: `sealingKey.x`, by which the owner relay knows that the device itself chose that key.
     */
    proof: Type.String({ minLength: 16, maxLength: 8192 }),
    sealingKey: SealingKey,
  }),
  lease: request('lease', {
    /** Names this wish for ever: a retry with the same value returns the first answer. 128 bits, hexadecimal. */
    request: Type.String({ pattern: '^[0-9a-f]{32}$' }),
    pool: Lease.properties.pool,
    kind: LeaseKind,
    leaseMs: Type.Optional(LeaseMs),
    /** The one remote that the lease is to be for, where the pool's flow policy asks for it (RFC 3103 §7.2). */
    remote: Type.Optional(Remote),
    /** What the device would like to have, or nothing: taken is refused, never replaced (RFC 3103 §10.5). */
    local: Type.Optional(Wished),
  }),
  /** What there is to lease for this device. */
  pools: request('pools', {}),
  /** Frees everything that the device holds and ends its registration (RFC 3103 §9.4). */
  deregister: request('deregister', {}),
  /** Tunnel parameters of a lease the device already holds (after a restart, or with another key). */
  attach: request('attach', { lease: LeaseId }),
  extend: request('extend', {
    lease: LeaseId,
    leaseMs: Type.Optional(LeaseMs),
    /** At least so many ports: the lease's block doubles in place, or all is refused (RFC 3102 §3.1). */
    ports: Type.Optional(Type.Integer({ minimum: 1, maximum: 65536 })),
  }),
  free: request('free', { lease: LeaseId }),
  rebind: request('rebind', {
    lease: LeaseId,
    /** The sealed CONTROL datagram, base64url. */
    datagram: Type.String({ pattern: '^[A-Za-z0-9_-]{8,512}$' }),
    /** The access address the device believes it has. */
    address: Type.String({ maxLength: 45 }),
    port: Type.Integer({ minimum: 1, maximum: 65535 }),
  }),
  ping: request('ping', {}),
} as const;

export type RequestName = keyof typeof Request;
export type RequestFrame = { [K in RequestName]: Static<(typeof Request)[K]> }[RequestName];
export type RequestOf<K extends RequestName> = Static<(typeof Request)[K]>;

export const ErrorBody = Type.Object({
  /** `ERR_MOORING_…` */
  code: Type.String(),
  /** RSIP number and name, where there is one (RFC 3103 appendix A). */
  rsip: Type.Optional(Type.Integer()),
  name: Type.Optional(Type.String()),
  message: Type.String(),
  temporary: Type.Boolean(),
  retryAfterMs: Type.Optional(Type.Integer()),
});
export type ErrorBody = Static<typeof ErrorBody>;

/** A pool, as a device sees it. */
export const OfferedPool = Type.Object({
  name: Lease.properties.pool,
  /** `private`: its addresses are known behind the relay alone. */
  realm: Type.Union([Type.Literal('public'), Type.Literal('private')]),
  kinds: Type.Array(LeaseKind),
  /** Ports and SPIs a lease; null where leases are whole addresses. */
  ports: Type.Union([Type.Integer(), Type.Null()]),
  spis: Type.Union([Type.Integer(), Type.Null()]),
  /** Ports that a lease's block may double to; absent: it does not double. */
  maxPorts: Type.Optional(Type.Integer()),
  leaseMs: Type.Object({ default: Type.Integer(), max: Type.Integer() }),
  /** What has to be declared of the remote (RFC 3103 §7.2). */
  remotePolicy: Type.Union([Type.Literal('none'), Type.Literal('macro'), Type.Literal('micro')]),
  maxLeases: Type.Integer(),
});
export type OfferedPool = Static<typeof OfferedPool>;

const Grant = Type.Object({ lease: Lease, tunnel: Tunnel });
export type Grant = Static<typeof Grant>;

/** Results by request. */
export const Result = {
  hello: Type.Object({
    device: Device,
    /** RSIP client id of the device, and how long it stays registered without a lease. */
    registration: Type.Optional(
      Type.Object({
        clientId: Type.Integer({ minimum: 1, maximum: 0xffffffff }),
        remainingMs: Type.Integer(),
      }),
    ),
    /** Leases the device holds now. */
    leases: Type.Array(Lease),
    /** The server pings this often, milliseconds; silence for two of them means the socket is gone. */
    pingIntervalMs: Type.Integer(),
  }),
  lease: Grant,
  attach: Grant,
  extend: Type.Object({ lease: Lease }),
  pools: Type.Object({ pools: Type.Array(OfferedPool) }),
  deregister: Type.Object({ freed: Type.Array(LeaseId) }),
  free: Type.Object({}),
  rebind: Type.Object({}),
  ping: Type.Object({}),
} as const;
export type ResultOf<K extends RequestName> = Static<(typeof Result)[K]>;

/** Frames from the server. */
export const ServerFrame = {
  /** Sent once when the socket opens. */
  welcome: Type.Object({
    type: Type.Literal('welcome'),
    protocol: Type.Literal(SUBPROTOCOL),
    /** Single-use DPoP nonce, bound to this socket. */
    nonce: Type.String(),
    /** The URL that `htu` must name. */
    url: Type.String(),
  }),
  result: Type.Object({ type: Type.Literal('result'), id: Id, result: Type.Unknown() }),
  error: Type.Object({
    type: Type.Literal('error'),
    id: Type.Union([Id, Type.Null()]),
    error: ErrorBody,
  }),
  /** A lease of this device ended without its asking, or was extended or freed on another socket. */
  ended: Type.Object({ type: Type.Literal('ended'), lease: LeaseId, reason: EndReason }),
  /** The node is going away: reconnect after a random wait of at most `withinMs`. */
  goaway: Type.Object({ type: Type.Literal('goaway'), withinMs: Type.Integer() }),
} as const;
export type ServerFrameOf<K extends keyof typeof ServerFrame> = Static<(typeof ServerFrame)[K]>;

/**
 * Close codes. 4000–4099: come back at once; 4100–4199: come back after a wait; 4200–4299: do not come back
 * without a change (a new token, a corrected client).
 */
export const CLOSE = {
  goaway: 4000,
  pingTimeout: 4001,
  overloaded: 4100,
  slowReader: 4101,
  badFrame: 4200,
  helloTimeout: 4201,
  helloTwice: 4202,
  unauthenticated: 4203,
  takenOver: 4204,
} as const;
