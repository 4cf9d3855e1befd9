import { setTimeout as wait } from 'node:timers/promises';
import { Cluster } from 'ioredis';
import { MooringError } from '../protocol/errors.ts';
import { bare } from './faults.ts';
import type { RedisClient } from './reaching.ts';

/** A command is sent again for so long, milliseconds. Every command is safe to send again. */
const SEND_FOR_MS = 3000;
/** Between sendings that were answered with "not here, not now", milliseconds. */
const PAUSE_MS = 50;

/** Time as sending sees it; tests put their own in. */
export interface Pace {
  /** Monotonic milliseconds. */
  nowMs(): number;
  wait(ms: number): Promise<unknown>;
}

const PROCESS_PACE: Pace = { nowMs: () => performance.now(), wait };

/** Sends until there is an answer: again at once when the connection that would bring it is gone. */
export type Resend = <T>(send: () => Promise<T>) => Promise<T>;

export function resender(redis: RedisClient, pace: Pace = PROCESS_PACE): Resend {
  // A cluster's connections reject what they lose themselves.
  const once = redis instanceof Cluster ? <T>(send: () => Promise<T>) => send() : rejectingWhatIsLost(redis);
  return async (send) => {
    const untilMs = pace.nowMs() + SEND_FOR_MS;
    for (let sending = 1; ; sending += 1) {
      try {
        return await once(send);
      } catch (cause) {
        if (!(cause instanceof Error)) throw cause;
        if (isFull(cause)) throw full(cause);
        if (isForbidden(cause)) throw forbidden(cause);
        const schema = /^MOORINGSCHEMA (\S+)/.exec(cause.message)?.[1];
        if (schema !== undefined) throw unknownSchema(schema);
        if (!isLost(cause)) throw bare(cause);
        if (pace.nowMs() >= untilMs) throw unavailable(cause);
        // Somebody else may serve the slot by now.
        if (redis instanceof Cluster) redis.refreshSlotsCache();
        if (sending > 1 || redis instanceof Cluster) await pace.wait(PAUSE_MS);
      }
    }
  };
}

/** With resending off, a single connection never settles what was under way when it was closed: this does. */
function rejectingWhatIsLost(redis: RedisClient): Resend {
  const waiting = new Set<(cause: Error) => void>();
  let ready = redis.status === 'ready';
  redis.on('ready', () => {
    ready = true;
  });
  redis.on('close', () => {
    // Only what was sent is lost; what still waits for a connection goes out with the next one.
    if (!ready) return;
    ready = false;
    for (const lose of [...waiting]) lose(new Error('Connection is closed.'));
  });
  return (send) =>
    new Promise((resolve, reject) => {
      const lose = (cause: Error) => {
        waiting.delete(lose);
        reject(cause);
      };
      waiting.add(lose);
      send().then((answer) => {
        waiting.delete(lose);
        resolve(answer);
      }, lose);
    });
}

function unavailable(cause: Error): MooringError {
  return new MooringError(
    'ERR_MOORING_REGISTRY_UNAVAILABLE',
    `the registry did not answer (${cause.message}); check that Redis runs and is reachable, and try again`,
    { temporary: true, retryAfterMs: 1000, cause: bare(cause) },
  );
}

function unknownSchema(schema: string): MooringError {
  return new MooringError(
    'ERR_MOORING_SCHEMA',
    `the registry holds data of layout ${schema}, which another version of Mooring has written and this one does not know; start that version here`,
    { data: { schema } },
  );
}

function isFull(cause: Error): boolean {
  return /\bOOM command not allowed/.test(cause.message);
}

function full(cause: Error): MooringError {
  return new MooringError(
    'ERR_MOORING_REGISTRY_UNAVAILABLE',
    'the registry has no memory left: what there is goes on, and nothing new is taken; raise maxmemory on its servers (CONFIG SET maxmemory …)',
    { temporary: true, retryAfterMs: 10_000, cause: bare(cause), data: { isFull: true } },
  );
}

/** Of the user's rights, in a command or in what a script does. */
function isForbidden({ message }: Error): boolean {
  return /^NOPERM\b|The user executing the script can't|ACL failure in script/.test(message);
}

function forbidden(cause: Error): MooringError {
  return new MooringError(
    'ERR_MOORING_REGISTRY_UNAVAILABLE',
    `the registry's user may not do what is needed (${cause.message}); give it the rights of docs/redis.md with ACL SETUSER, on every server`,
    { temporary: true, retryAfterMs: 10_000, cause: bare(cause) },
  );
}

/** Whether a server has refused something because it has no memory left. */
export function isOutOfMemory(error: unknown): boolean {
  return error instanceof MooringError && error.data.isFull === true;
}

/** No answer, or one that says "not here, not now": sending again is right. */
function isLost(cause: Error): boolean {
  return /Command timed out|Connection is closed|Connection is in closing|Socket timeout|ECONN|EPIPE|ENOENT|ETIMEDOUT|EHOSTUNREACH|max retries|Stream isn't writeable|Socket closed|Cluster isn't ready|Cluster is ended|startup nodes|Too many Cluster redirections|sentinels are unreachable|LOADING|READONLY|MASTERDOWN|NOREPLICAS|CLUSTERDOWN|TRYAGAIN|MISCONF|^BUSY |^(ERR )?(WRONGPASS|NOAUTH)/i.test(
    `${cause.message} ${cause.name}`,
  );
}
