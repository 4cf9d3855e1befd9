import Type, { type Static } from 'typebox';
import { Lease, LeaseEvent, Session } from './lease.ts';

/**
 * What signalling nodes and relays ask of a relay. In one process it is a function call, else JSON over an
 * mTLS WebSocket (subprotocol `mooring.relay.v1`): `{id, call, params}` answered by `{id, result}` or `{id, error}`.
 */
export interface RelayPlane {
  /**
   * Install a granted lease (idempotent), tell the registry that it is active and, when `sealing` is given,
   * return K_root sealed to that key. Resolves only when the packet loop forwards for the lease.
   */
  install(params: InstallParams): Promise<InstallResult>;
  /** Apply a lease event that another node caused in the registry (extended, ended, session). */
  apply(params: ApplyParams): Promise<Record<string, never>>;
  /** A device's sealed CONTROL datagram that came over signalling, with the address it believes it has. */
  rebind(params: RebindParams): Promise<Record<string, never>>;
  /** Another relay is about to hand an anchor over: follow its state and derive its keys. */
  prepare(params: PrepareParams): Promise<Record<string, never>>;
  /** The anchor is now owned by this relay under `epoch`; `state` continues its sessions without a loss. */
  adopt(params: AdoptParams): Promise<Record<string, never>>;
  /** The owner asks its standby not to claim these anchors for a while; answers with those for which it promises. */
  promise(params: PromiseParams): Promise<PromiseResult>;
}

/** What an operator's node asks of a relay: who owns an anchor is for relays alone to change. */
export interface OperatorPlane {
  /** Hand an anchor that this relay owns over to another relay of its site, as planned. */
  handOver(params: HandOverParams): Promise<HandOverResult>;
  /** Claim an anchor whose owner is gone: an operator's word stands for its home's or its standby's right. */
  claim(params: ClaimParams): Promise<ClaimResult>;
}

/** X25519 public key (RFC 8037) that K_root is sealed to. */
export const SealingKey = Type.Object(
  {
    kty: Type.Literal('OKP'),
    crv: Type.Literal('X25519'),
    x: Type.String({ pattern: '^[A-Za-z0-9_-]{43}$' }),
  },
  { additionalProperties: false },
);
export type SealingKey = Static<typeof SealingKey>;

const Base64url = Type.String({ pattern: '^[A-Za-z0-9_-]*$', maxLength: 4096 });

/** How a device reaches its session's tunnel. */
export const Tunnel = Type.Object(
  {
    /** Tunnel endpoint addresses of the anchor (one of each family at most), and their UDP port. */
    endpoints: Type.Array(
      Type.Object({ address: Type.String(), port: Type.Integer({ minimum: 1, maximum: 65535 }) }),
      { minItems: 1, maxItems: 2 },
    ),
    index: Type.Integer({ minimum: 1, maximum: 0xffffff }),
    sessionId: Type.String({ pattern: '^[0-9a-f]{32}$' }),
    /** The anchor's epoch, decimal. */
    epoch: Type.String({ pattern: '^[0-9]+$' }),
    /** The inner MTU: constant over all moves, octets. */
    mtu: Type.Integer({ minimum: 1280, maximum: 65535 }),
    /** Compact JWE (ECDH-ES, A256GCM) holding the 32 octets of K_root. */
    sealedRoot: Type.String(),
  },
  { additionalProperties: false },
);
export type Tunnel = Static<typeof Tunnel>;

/**
 * The key that K_root is to be sealed to, and the device's word for it: the DPoP proof of its hello, which names
 * `key.x` in the claim `seal`. A signalling node cannot make one up.
 */
export const Sealing = Type.Object(
  { key: SealingKey, proof: Type.String({ minLength: 16, maxLength: 8192 }) },
  { additionalProperties: false },
);
export type Sealing = Static<typeof Sealing>;

export const InstallParams = Type.Object({
  lease: Lease,
  session: Session,
  sealing: Type.Optional(Sealing),
});
export type InstallParams = Static<typeof InstallParams>;
/** The lease, active by now, and how to reach its tunnel when `sealing` was given. */
export const InstallResult = Type.Object({ lease: Lease, tunnel: Type.Optional(Tunnel) });
export type InstallResult = Static<typeof InstallResult>;

export const ApplyParams = Type.Object({ anchor: Type.String(), event: LeaseEvent });
export type ApplyParams = Static<typeof ApplyParams>;

export const RebindParams = Type.Object({
  anchor: Type.String(),
  /** The CONTROL datagram as it would have been sent in band, base64url. */
  datagram: Base64url,
  address: Type.String(),
  port: Type.Integer({ minimum: 1, maximum: 65535 }),
});
export type RebindParams = Static<typeof RebindParams>;

export const PrepareParams = Type.Object({ anchor: Type.String() });
export type PrepareParams = Static<typeof PrepareParams>;

/** Everything a session needs to go on at another relay; keys are derived there, not sent. */
export const SessionState = Type.Object({
  id: Type.String({ pattern: '^[0-9a-f]{32}$' }),
  deviceBoot: Type.String({ pattern: '^[0-9a-f]{16}$' }),
  generation: Type.Integer({ minimum: 0 }),
  active: Type.Union([Type.Object({ address: Type.String(), port: Type.Integer() }), Type.Null()]),
  rttMs: Type.Number(),
  /** CONTROL replay window of the device's boot: highest counter and bitmap (hexadecimal). */
  control: Type.Object({ highest: Type.String(), bitmap: Type.String() }),
  /** The DATA keys in use under the old owner: which ones, where sending goes on, which have been received. */
  data: Type.Object({
    epoch: Type.String(),
    relayBoot: Type.String({ pattern: '^[0-9a-f]{16}$' }),
    keyNumber: Type.Integer({ minimum: 0 }),
    nextSequence: Type.Integer({ minimum: 1 }),
    /** The same for lane 1; 1 when absent. */
    fastSequence: Type.Optional(Type.Integer({ minimum: 1 })),
    /** Per lane: highest sequence received and bitmap (hexadecimal). */
    windows: Type.Array(Type.Object({ highest: Type.Integer(), bitmap: Type.String() })),
  }),
});
export type SessionState = Static<typeof SessionState>;

export const AdoptParams = Type.Object({
  anchor: Type.String(),
  epoch: Type.String({ pattern: '^[0-9]+$' }),
  sessions: Type.Array(SessionState, { maxItems: 4096 }),
});
export type AdoptParams = Static<typeof AdoptParams>;

export const PromiseParams = Type.Object({
  anchors: Type.Array(
    Type.Object({ anchor: Type.String({ maxLength: 32 }), epoch: Type.String({ pattern: '^[0-9]+$' }) }),
    { maxItems: 16_384 },
  ),
});
export type PromiseParams = Static<typeof PromiseParams>;
export const PromiseResult = Type.Object({ promised: Type.Array(Type.String()) });
export type PromiseResult = Static<typeof PromiseResult>;

const AnchorId = Type.String({ pattern: '^[a-z0-9-]{1,32}$' });
const Epoch = Type.String({ pattern: '^[0-9]+$' });

export const HandOverParams = Type.Object({ anchor: AnchorId, to: AnchorId });
export type HandOverParams = Static<typeof HandOverParams>;
/** The epoch under which the other relay owns it, and how long it took. */
export const HandOverResult = Type.Object({ epoch: Epoch, tookMs: Type.Number() });
export type HandOverResult = Static<typeof HandOverResult>;

export const ClaimParams = Type.Object({ anchor: AnchorId });
export type ClaimParams = Static<typeof ClaimParams>;
export const ClaimResult = Type.Object({ epoch: Epoch });
export type ClaimResult = Static<typeof ClaimResult>;
