import Type, { type Static } from 'typebox';

/** What is leased (RFC 3103 §3, RFC 3104 §2): a whole address, an address with ports, or that with SPIs. */
export const LeaseKind = Type.Union([
  Type.Literal('rsa-ip'),
  Type.Literal('rsap-ip'),
  Type.Literal('rsipsec'),
]);
export type LeaseKind = Static<typeof LeaseKind>;

/** `count` consecutive values from `first`; `count` is a power of two and divides `first`. */
export const Block = Type.Object(
  { first: Type.Integer({ minimum: 0 }), count: Type.Integer({ minimum: 1 }) },
  { additionalProperties: false },
);
export type Block = Static<typeof Block>;

/**
 * The one remote that a lease is for (RFC 3103 §7.2). `port` null: every port of it (macro flow policy); a number: that
 * TCP or UDP port (micro).
 */
export const Remote = Type.Object(
  {
    /** Canonical text, of the family of the leased address. */
    address: Type.String({ maxLength: 45 }),
    port: Type.Union([Type.Integer({ minimum: 1, maximum: 65535 }), Type.Null()]),
  },
  { additionalProperties: false },
);
export type Remote = Static<typeof Remote>;

/** An authenticated principal: the RSIP host. */
export const Device = Type.Object(
  {
    tenant: Type.String({ minLength: 1, maxLength: 64, pattern: '^[A-Za-z0-9._-]+$' }),
    id: Type.String({ minLength: 1, maxLength: 128, pattern: '^[A-Za-z0-9._:@|-]+$' }),
  },
  { additionalProperties: false },
);
export type Device = Static<typeof Device>;

/** `<epoch>-<counter>` of an anchor: orders its changes, and is the id of the stream entry. */
export const Fence = Type.String({ pattern: '^[0-9]+-[0-9]+$' });

/** 16 octets in lower-case hexadecimal. */
export const Hex128 = Type.String({ pattern: '^[0-9a-f]{32}$' });

export const Lease = Type.Object(
  {
    /** `<anchor>.<22 characters>`: names its anchor, so any node finds its slot. */
    id: Type.String({ pattern: '^[a-z0-9-]{1,32}\\.[A-Za-z0-9_-]{22}$' }),
    anchor: Type.String({ pattern: '^[a-z0-9-]{1,32}$' }),
    pool: Type.String({ pattern: '^[a-z0-9-]{1,32}$' }),
    device: Device,
    /** RSIP bind id: unique for the device. */
    bindId: Type.Integer({ minimum: 1, maximum: 0xffffffff }),
    kind: LeaseKind,
    /** Canonical text. */
    address: Type.String(),
    ports: Type.Union([Block, Type.Null()]),
    spis: Type.Union([Block, Type.Null()]),
    /**
     * IKE SPIs (cookies) on UDP 500 and 4500: those whose first 32 bits lie in the block. Null or absent: none; SPIs of
     * the device's own choice are then learned from what it sends.
     */
    ikeSpis: Type.Optional(Type.Union([Block, Type.Null()])),
    /** Null or absent: any remote (flow policy none). */
    remote: Type.Optional(Type.Union([Remote, Type.Null()])),
    /** Session (tunnel) it is carried by: id. */
    session: Hex128,
    state: Type.Union([Type.Literal('pending'), Type.Literal('active')]),
    /** Milliseconds of life left when this record was read, by the registry's clock. */
    remainingMs: Type.Integer(),
    fence: Fence,
  },
  { additionalProperties: false },
);
export type Lease = Static<typeof Lease>;

export const Session = Type.Object(
  {
    id: Hex128,
    /** 24 bits, unique on its anchor at one time. */
    index: Type.Integer({ minimum: 1, maximum: 0xffffff }),
    device: Device,
    /** RFC 7638 SHA-256 thumbprint (base64url) of the device's DPoP key. */
    thumbprint: Type.String({ pattern: '^[A-Za-z0-9_-]{43}$' }),
    salt: Hex128,
  },
  { additionalProperties: false },
);
export type Session = Static<typeof Session>;

/** The last proven path of a session, kept behind the data path as a hint for the next owner. */
export const PathHint = Type.Object(
  {
    session: Hex128,
    address: Type.String(),
    port: Type.Integer({ minimum: 0, maximum: 65535 }),
    generation: Type.Integer({ minimum: 0, maximum: 0xffffffff }),
    /** 8 octets, hexadecimal. */
    deviceBoot: Type.String({ pattern: '^[0-9a-f]{16}$' }),
  },
  { additionalProperties: false },
);
export type PathHint = Static<typeof PathHint>;

/** Why a lease ended. */
export const EndReason = Type.Union([
  Type.Literal('freed'),
  Type.Literal('expired'),
  Type.Literal('withdrawn'),
  Type.Literal('revoked'),
]);
export type EndReason = Static<typeof EndReason>;

/** One entry of an anchor's event stream; `fence` is its stream id. */
export const LeaseEvent = Type.Union([
  Type.Object({ type: Type.Literal('granted'), fence: Fence, lease: Lease, session: Session }),
  Type.Object({ type: Type.Literal('activated'), fence: Fence, lease: Lease }),
  Type.Object({ type: Type.Literal('extended'), fence: Fence, lease: Lease }),
  Type.Object({ type: Type.Literal('ended'), fence: Fence, lease: Lease, reason: EndReason }),
  /** The device's session was replaced (its key changed): the old session id carries nothing any more. */
  Type.Object({ type: Type.Literal('session'), fence: Fence, session: Session, replaces: Hex128 }),
  /** Ownership changed: `relay` owns the anchor under the epoch of this fence. */
  Type.Object({ type: Type.Literal('owned'), fence: Fence, relay: Type.String() }),
  /** The anchor's declaration has changed: it has other addresses. */
  Type.Object({ type: Type.Literal('declared'), fence: Fence }),
]);
export type LeaseEvent = Static<typeof LeaseEvent>;
