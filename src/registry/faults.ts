import type { RedisAddress } from '../config/redis-url.ts';
import type { RedisSettings } from '../config/schema.ts';
import { MooringError } from '../protocol/errors.ts';

/** The same error without the command that it names: its arguments are secrets, a password among them. */
export function bare(cause: Error): Error {
  const { message, name, stack } = cause;
  const { code } = cause as NodeJS.ErrnoException;
  const copy = new Error(message);
  copy.name = name;
  if (stack !== undefined) copy.stack = stack;
  return code === undefined ? copy : Object.assign(copy, { code });
}

/** A fault that trying again does not mend, and what does. */
function remedyFor(cause: Error, address: RedisAddress, files: RedisSettings): string | null {
  const { code = '' } = cause as NodeJS.ErrnoException;
  const text = `${code} ${cause.message}`;
  const tls = address.shape !== 'socket' && address.tls;
  const user = (address.shape !== 'socket' && address.user) || 'default';
  if (/WRONGPASS|invalid password|invalid username-password/i.test(text)) {
    return `it refuses the password of user ${user}; correct redis.passwordFile, or the user with ACL SETUSER ${user}`;
  }
  if (/NOAUTH/.test(text)) {
    return `it wants a password for user ${user}; name a file with it in redis.passwordFile`;
  }
  if (/NOPERM/.test(text)) {
    return `user ${user} may not do what is needed; give it the rights of docs/redis.md with ACL SETUSER ${user}`;
  }
  if (
    /SELF_SIGNED|UNABLE_TO_VERIFY|UNABLE_TO_GET_ISSUER|self.signed certificate|unable to verify/i.test(text)
  ) {
    return files.caFile === undefined
      ? 'its certificate is of an authority that nobody knows; name that authority in redis.caFile'
      : `its certificate is not of the authority in ${files.caFile}; correct redis.caFile, or give the server a certificate of it`;
  }
  if (/CERT_HAS_EXPIRED|certificate has expired/i.test(text)) return 'its certificate has expired; renew it';
  if (/ALTNAME|does not match certificate/i.test(text)) {
    return 'its certificate is for another name; write that name in redisUrl, or issue one for this address';
  }
  if (
    /CERTIFICATE_REQUIRED|certificate required|HANDSHAKE_FAILURE|handshake failure|UNKNOWN_CA|unknown ca/i.test(
      text,
    )
  ) {
    return 'it wants a client certificate that it trusts; name one in redis.certFile and redis.keyFile';
  }
  if (/WRONG_VERSION_NUMBER|wrong version number|packet length too long/i.test(text) && tls) {
    return 'it does not speak TLS there; write redis… instead of rediss…, or its tls-port';
  }
  if (/cluster support disabled/.test(text)) {
    return 'it is no server of a cluster; write redis:// or redis+sentinel:// instead of redis+cluster://';
  }
  if (address.shape === 'sentinel' && /unknown command .?sentinel/i.test(text)) {
    return 'it is no sentinel; name sentinels in redisUrl, or write redis://';
  }
  if (address.shape === 'sentinel' && /invalid reply: null|No such master/.test(text)) {
    return `the sentinels know no primary of the name ${address.primaryName}; end redisUrl with the name that their \`sentinel monitor\` says`;
  }
  return null;
}

/** True for a fault that stays until somebody mends it. */
export function isLasting(cause: Error, address: RedisAddress, files: RedisSettings): boolean {
  return remedyFor(cause, address, files) !== null;
}

/** A server may say no more than by hanging up, or by waiting. */
function whatTlsMayHide(cause: Error, address: RedisAddress, files: RedisSettings): string {
  if (address.shape === 'socket') return '';
  if (!address.tls) return /ECONNRESET|closed/.test(cause.message) ? '; with TLS write rediss…' : '';
  if (/ECONNRESET|EPIPE|closed/.test(cause.message) && files.certFile === undefined) {
    return '; a server that wants a client certificate needs redis.certFile and redis.keyFile';
  }
  return /ETIMEDOUT/.test(cause.message)
    ? ' with TLS on this port (its tls-port; otherwise write redis…)'
    : '';
}

/** Why a registry could not be opened; `shown` is its address without a password. */
export function cannotReach(
  cause: Error,
  shown: string,
  address: RedisAddress,
  files: RedisSettings,
): MooringError {
  const remedy = remedyFor(cause, address, files);
  const look = `${cause.message}; check redisUrl (or REDIS_URL) and that the server runs${whatTlsMayHide(cause, address, files)}`;
  return new MooringError('ERR_MOORING_REGISTRY_UNAVAILABLE', `registry ${shown}: ${remedy ?? look}`, {
    temporary: remedy === null,
    cause: bare(cause),
  });
}
