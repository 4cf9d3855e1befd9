import type { TSchema } from 'typebox';
import Type, { type Static } from 'typebox';
import { checked } from '../protocol/checked.ts';
import { EndReason, Lease } from '../protocol/lease.ts';
import {
  AdoptParams,
  ApplyParams,
  ClaimParams,
  HandOverParams,
  InstallParams,
  type OperatorPlane,
  PrepareParams,
  PromiseParams,
  RebindParams,
  type RelayPlane,
} from '../protocol/relay-plane.ts';

/** WebSocket subprotocol between signalling nodes and relays; the version is part of the name. */
export const PLANE_SUBPROTOCOL = 'mooring.relay.v1';

/** A hand-over of 4,096 sessions with their windows fits. */
export const PLANE_MAX_FRAME_BYTES = 16 * 1024 * 1024;

export type PlaneCall = keyof RelayPlane | keyof OperatorPlane;

const params: Record<PlaneCall, TSchema> = {
  install: InstallParams,
  apply: ApplyParams,
  rebind: RebindParams,
  prepare: PrepareParams,
  adopt: AdoptParams,
  promise: PromiseParams,
  handOver: HandOverParams,
  claim: ClaimParams,
};

/** Who a node is, by its certificate's common name: `relay:ID`, `signalling:ID` or `admin:ID`. */
export type PlaneRole = 'relay' | 'signalling' | 'admin';

/** A signalling node may not pretend to hand an anchor over: sessions' paths would follow its word. */
export const CALLERS: Readonly<Record<PlaneCall, readonly PlaneRole[]>> = {
  install: ['signalling', 'relay'],
  apply: ['signalling', 'relay', 'admin'],
  rebind: ['signalling', 'relay'],
  prepare: ['relay'],
  adopt: ['relay'],
  promise: ['relay'],
  // A relay, because an operator may ask any of them.
  handOver: ['relay', 'admin'],
  claim: ['relay', 'admin'],
};

/** The role that a certificate's common name gives; null for any other name. */
export function roleOf(commonName: string | string[] | undefined): PlaneRole | null {
  const [role] = String(commonName ?? '').split(':', 1);
  return role === 'relay' || role === 'signalling' || role === 'admin' ? role : null;
}

/** Checks the parameters of a call from the network; throws ERR_MOORING_BAD_INPUT. */
export const checkedParams = Object.fromEntries(
  Object.entries(params).map(([call, schema]) => [call, checked(schema)]),
) as Record<PlaneCall, (value: unknown) => never>;

/** What a relay tells every node that is connected to it, unasked: a lease it serves has ended. */
export const LeaseEnded = Type.Object(
  { type: Type.Literal('ended'), lease: Lease, reason: EndReason },
  { additionalProperties: false },
);
export type LeaseEnded = Static<typeof LeaseEnded>;
