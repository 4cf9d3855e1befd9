import { checked } from '../../src/protocol/checked.ts';
import { badInput, MooringError, RSIP_ERRORS, type RsipErrorNumber } from '../../src/protocol/errors.ts';
import {
  type ErrorBody,
  type RequestName,
  Result,
  type ResultOf,
  ServerFrame,
  type ServerFrameOf,
} from '../../src/protocol/signalling.ts';

export type AnyServerFrame = { [K in keyof typeof ServerFrame]: ServerFrameOf<K> }[keyof typeof ServerFrame];

const check = {
  welcome: checked(ServerFrame.welcome),
  result: checked(ServerFrame.result),
  error: checked(ServerFrame.error),
  ended: checked(ServerFrame.ended),
  goaway: checked(ServerFrame.goaway),
};

const checkResult: { [K in RequestName]: (value: unknown) => ResultOf<K> } = {
  hello: checked(Result.hello),
  lease: checked(Result.lease),
  attach: checked(Result.attach),
  extend: checked(Result.extend),
  free: checked(Result.free),
  rebind: checked(Result.rebind),
  pools: checked(Result.pools),
  deregister: checked(Result.deregister),
  ping: checked(Result.ping),
};

/** Reads one frame of the server; throws ERR_MOORING_BAD_INPUT naming what is wrong with it. */
export function readServerFrame(data: unknown): AnyServerFrame {
  if (typeof data !== 'string') throw badInput('frame', typeof data, 'the server must send text frames');
  let frame: unknown;
  try {
    frame = JSON.parse(data);
  } catch {
    throw badInput('frame', data, 'the server must send JSON');
  }
  const type = (frame as { type?: unknown } | null)?.type;
  if (typeof type !== 'string' || !Object.hasOwn(check, type)) {
    throw badInput('frame.type', type, `the server must send one of ${Object.keys(check).join(', ')}`);
  }
  return check[type as keyof typeof check](frame);
}

/** Checks the result of a request; throws ERR_MOORING_BAD_INPUT naming the field. */
export function readResult<K extends RequestName>(request: K, result: unknown): ResultOf<K> {
  return checkResult[request](result);
}

/** The error that the server reported, with its RSIP name where it has one. */
export function errorFromServer(body: ErrorBody): MooringError {
  const code = body.code.startsWith('ERR_MOORING_')
    ? (body.code as `ERR_MOORING_${string}`)
    : 'ERR_MOORING_SERVER';
  const rsip =
    body.rsip !== undefined && body.rsip in RSIP_ERRORS ? (body.rsip as RsipErrorNumber) : undefined;
  return new MooringError(code, body.message, {
    temporary: body.temporary,
    ...(rsip === undefined ? {} : { rsip }),
    ...(body.retryAfterMs === undefined ? {} : { retryAfterMs: body.retryAfterMs }),
    data: rsip === undefined ? {} : { name: RSIP_ERRORS[rsip] },
  });
}
