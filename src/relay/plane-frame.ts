import { MooringError, RSIP_ERRORS, type RsipErrorNumber } from '../protocol/errors.ts';

/** What the other end of the relay plane said: an object, whatever is in it. */
export type PlaneFrame = Readonly<Record<string, unknown>>;

/** Reads one text frame of the relay plane. Throws ERR_MOORING_BAD_INPUT for anything but one JSON object. */
export function readPlaneFrame(text: string): PlaneFrame {
  let frame: unknown;
  try {
    frame = JSON.parse(text);
  } catch (cause) {
    throw new MooringError('ERR_MOORING_BAD_INPUT', 'the frame is not JSON; send one object a text frame', {
      rsip: 207,
      cause,
    });
  }
  if (typeof frame === 'object' && frame !== null && !Array.isArray(frame)) return frame as PlaneFrame;
  throw new MooringError(
    'ERR_MOORING_BAD_INPUT',
    'the frame is not a JSON object; send one object a text frame',
    {
      rsip: 207,
    },
  );
}

/** The error that the other end answered a call with, whatever form it has. */
export function errorOfFrame(value: unknown): MooringError {
  const error = typeof value === 'object' && value !== null ? (value as PlaneFrame) : {};
  const code = String(error.code);
  const rsip = Number(error.rsip);
  return new MooringError(
    code.startsWith('ERR_MOORING_') ? (code as `ERR_MOORING_${string}`) : 'ERR_MOORING_INTERNAL',
    String(error.message),
    {
      temporary: error.temporary === true,
      ...(Object.hasOwn(RSIP_ERRORS, rsip) ? { rsip: rsip as RsipErrorNumber } : {}),
      ...(typeof error.retryAfterMs === 'number' ? { retryAfterMs: error.retryAfterMs } : {}),
    },
  );
}
