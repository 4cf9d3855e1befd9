import { checked, type FieldFault } from '../protocol/checked.ts';
import { MooringError, type RsipErrorNumber } from '../protocol/errors.ts';
import { Request, type RequestFrame, type RequestName } from '../protocol/signalling.ts';

/**
 * What a text frame is. A bad one that has a usable `id` is answered; one that cannot be answered shows that the
 * other end does not speak the protocol, and ends the socket.
 */
export type ParsedFrame =
  | { readonly kind: 'request'; readonly frame: RequestFrame }
  | { readonly kind: 'bad'; readonly id: number | null; readonly error: MooringError };

/** Fields whose value must not be repeated, in an answer or in a log. */
const SECRET_FIELDS = new Set(['token', 'proof', 'datagram']);

/** No request has as many members; explaining what is wrong with a thousand would cost more than it helps. */
const MAX_MEMBERS = 16;

const CHECKS = Object.fromEntries(
  Object.entries(Request).map(([name, schema]) => [name, checked(schema, refuseField)]),
) as { readonly [K in RequestName]: (value: unknown) => RequestFrame };

/** Parses one text frame. Never throws. */
export function parseFrame(text: string): ParsedFrame {
  const value = parseJson(text);
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    const error = badFrame('the frame is not a JSON object; send one object a text frame', 207, '');
    return { kind: 'bad', id: null, error };
  }
  const { type, id } = value as { type?: unknown; id?: unknown };
  const answerable = Number.isSafeInteger(id) && (id as number) >= 1 ? (id as number) : null;
  if (typeof type !== 'string' || !Object.hasOwn(CHECKS, type)) {
    const shown = typeof type === 'string' ? JSON.stringify(type.slice(0, 40)) : `of type ${typeof type}`;
    const known = Object.keys(CHECKS).join(', ');
    return {
      kind: 'bad',
      id: answerable,
      error: badFrame(`type is ${shown}; use one of ${known}`, 208, 'type'),
    };
  }
  const members = Object.keys(value).length;
  if (members > MAX_MEMBERS) {
    const error = badFrame(`the frame has ${members} members; send those of ${type} only`, 203, '');
    return { kind: 'bad', id: answerable, error };
  }
  try {
    return { kind: 'request', frame: CHECKS[type as RequestName](value) };
  } catch (error) {
    if (error instanceof MooringError) return { kind: 'bad', id: answerable, error };
    return { kind: 'bad', id: answerable, error: badFrame('the frame cannot be read; send less', 207, '') };
  }
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function refuseField({ field, value, remedy }: FieldFault): MooringError {
  const rsip = value === 'unknown' ? 203 : value === 'missing' ? 201 : 205;
  const shown = SECRET_FIELDS.has(field) && rsip === 205 ? 'not valid' : value;
  return badFrame(`${field.slice(0, 80)} is ${shown}; ${remedy}`, rsip, field.slice(0, 80));
}

function badFrame(message: string, rsip: RsipErrorNumber, field: string): MooringError {
  return new MooringError('ERR_MOORING_BAD_FRAME', message, { rsip, data: { field } });
}
