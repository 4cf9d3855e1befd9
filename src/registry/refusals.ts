import { type ErrorDetail, MooringError } from '../protocol/errors.ts';
import { REFUSALS } from './commands.gen.ts';

export type Refusal = keyof typeof REFUSALS;

interface Named {
  readonly code: `ERR_MOORING_${string}`;
  readonly text: (subject: string) => string;
  readonly detail?: ErrorDetail;
}

/** What each negative return code of a command means to a caller. */
const NAMED: Readonly<Record<Refusal, Named>> = {
  UNDECLARED: {
    code: 'ERR_MOORING_UNKNOWN_ANCHOR',
    text: (subject) => `${subject}: the registry does not know this anchor; declare it in the configuration`,
    detail: { rsip: 104 },
  },
  OWNED_BY_ANOTHER: {
    code: 'ERR_MOORING_OWNED_BY_ANOTHER',
    text: (subject) =>
      `${subject}: another relay owns it; hand it over from there, or claim it by force once its claim has run out`,
    detail: { temporary: true },
  },
  STALE_EPOCH: {
    code: 'ERR_MOORING_STALE_EPOCH',
    text: (subject) => `${subject}: another epoch has begun; stop serving the anchor under the old one`,
  },
  NO_OWNER: {
    code: 'ERR_MOORING_NO_OWNER',
    text: (subject) => `${subject}: no relay serves this anchor now; try again`,
    detail: { temporary: true, retryAfterMs: 2000 },
  },
  EXHAUSTED: {
    code: 'ERR_MOORING_EXHAUSTED',
    text: (subject) => `${subject}: nothing is free; try again later`,
    detail: { temporary: true, retryAfterMs: 2000 },
  },
  BAD_BIND: {
    code: 'ERR_MOORING_BAD_BIND',
    text: (subject) => `${subject}: no such lease of this device; ask what it holds, or lease anew`,
    detail: { rsip: 306 },
  },
  KIND_NOT_OFFERED: {
    code: 'ERR_MOORING_KIND_NOT_OFFERED',
    text: (subject) =>
      `${subject}: the pool does not offer this kind; rsa-ip comes from pools of whole addresses, rsap-ip and rsipsec from shared ones`,
    detail: { rsip: 208 },
  },
  LEASES_WOULD_BE_ORPHANED: {
    code: 'ERR_MOORING_ANCHOR_IN_USE',
    text: (subject) =>
      `${subject}: its block sizes, sharing or pool cannot change while leases are held or cooling; free them and wait for coolingMs, or declare another anchor`,
  },
  WITHDRAWN: {
    code: 'ERR_MOORING_WITHDRAWN',
    text: (subject) => `${subject}: its relay did not install it in time and it was withdrawn; try again`,
    detail: { temporary: true, retryAfterMs: 1000 },
  },
  NOT_PENDING: {
    code: 'ERR_MOORING_NOT_PENDING',
    text: (subject) => `${subject}: it is active and cannot be withdrawn; free it`,
  },
  REQUEST_ENDED: {
    code: 'ERR_MOORING_REQUEST_ENDED',
    text: (subject) =>
      `${subject}: the lease that answered this request has ended; ask with a new request id`,
    detail: { rsip: 306 },
  },
  NOT_HOME: {
    code: 'ERR_MOORING_NOT_HOME',
    text: (subject) => `${subject}: it has no owner and another relay is its home; claim it by force`,
  },
  QUOTA: {
    code: 'ERR_MOORING_QUOTA',
    text: (subject) => `${subject}: the device holds as many leases of the pool as it may; free one`,
    detail: { rsip: 304 },
  },
  REMOTE_FAMILY: {
    code: 'ERR_MOORING_REMOTE_FAMILY',
    text: (subject) =>
      `${subject}: the address that is free here is not of the family of the remote; ask a pool of that family`,
    detail: { rsip: 314 },
  },
  QUARANTINED: {
    code: 'ERR_MOORING_QUARANTINED',
    text: (subject) =>
      `${subject}: the registry has failed over or restarted and may have lost something; its relay is being asked, try again`,
    detail: { temporary: true, retryAfterMs: 1000 },
  },
  UNTOLD: {
    code: 'ERR_MOORING_QUARANTINED',
    text: (subject) => `${subject}: the registry has yet to hear what its relay holds; try again`,
    detail: { temporary: true, retryAfterMs: 1000 },
  },
  RESTORING: {
    code: 'ERR_MOORING_QUARANTINED',
    text: (subject) => `${subject}: what its relay holds is being brought back; try again`,
    detail: { temporary: true, retryAfterMs: 1000 },
  },
  ADDRESS_INUSE: {
    code: 'ERR_MOORING_ADDRESS_INUSE',
    text: (subject) =>
      `${subject}: the address asked for is leased or rests; ask for another one, or leave it open`,
    detail: { rsip: 310 },
  },
  ADDRESS_UNALLOWED: {
    code: 'ERR_MOORING_ADDRESS_UNALLOWED',
    text: (subject) =>
      `${subject}: the address asked for is not leased from this pool; leave it open, or ask another pool`,
    detail: { rsip: 312 },
  },
  PORTS_INUSE: {
    code: 'ERR_MOORING_PORTS_INUSE',
    text: (subject) =>
      `${subject}: the port asked for is leased or rests; ask for another one, or leave it open`,
    detail: { rsip: 311 },
  },
  PORTS_UNALLOWED: {
    code: 'ERR_MOORING_PORTS_UNALLOWED',
    text: (subject) =>
      `${subject}: the port asked for is not leased from this pool; ask for one from 1024 up`,
    detail: { rsip: 313 },
  },
  SPIS_INUSE: {
    code: 'ERR_MOORING_SPIS_INUSE',
    text: (subject) =>
      `${subject}: the SPI asked for is leased or rests; ask for another one, or leave it open`,
    detail: { rsip: 403 },
  },
  SPIS_UNAVAILABLE: {
    code: 'ERR_MOORING_SPIS_UNAVAILABLE',
    text: (subject) =>
      `${subject}: the SPI asked for is not leased, or not with this address and port; leave one of them open`,
    detail: { rsip: 402 },
  },
  PORTS_UNAVAILABLE: {
    code: 'ERR_MOORING_PORTS_UNAVAILABLE',
    text: (subject) =>
      `${subject}: so many ports are not to be had in one block with its own; ask for fewer, or lease another block`,
    detail: { rsip: 309 },
  },
  PLAN_MOVED: {
    code: 'ERR_MOORING_PLAN_MOVED',
    text: (subject) => `${subject}: somebody else is changing its declaration; look at it and declare again`,
    detail: { temporary: true, retryAfterMs: 100 },
  },
  INDEX_BEHIND: {
    code: 'ERR_MOORING_INDEX_BEHIND',
    text: (subject) =>
      `${subject}: the registry has failed over, and what it knew of this device is being asked of its anchors; try again`,
    detail: { temporary: true, retryAfterMs: 1000 },
  },
};

const BY_CODE = new Map<number, Refusal>(
  Object.entries(REFUSALS).map(([name, code]) => [code, name as Refusal]),
);

/** The refusal in a command's answer, if it is one. */
export function refusalIn(answer: unknown): Refusal | undefined {
  return typeof answer === 'number' ? BY_CODE.get(answer) : undefined;
}

/** The error of a refusal; `subject` is what was asked for. */
export function refusalError(refusal: Refusal, subject: string, more: ErrorDetail = {}): MooringError {
  const { code, text, detail } = NAMED[refusal];
  return new MooringError(code, text(subject), { ...detail, ...more, data: { ...more.data, subject } });
}
