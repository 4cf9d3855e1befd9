import { Redis } from 'ioredis';
import type { Logger } from 'pino';
import { MooringError } from '../protocol/errors.ts';
import { COMMANDS } from './commands.gen.ts';
import { type Refusal, refusalIn } from './refusals.ts';

export type CommandName = keyof typeof COMMANDS;
/** The scripts to run: the generated ones; tests put their own clock or a fault into them. */
export type Commands = Readonly<
  Record<CommandName, { readonly name: string; readonly keys: number; readonly lua: string }>
>;

/** How long one sending of a command may take before it is sent again. */
const COMMAND_TIMEOUT_MS = 1000;
/** Sendings of one command, the first included. Every command is safe to send again. */
const SENDINGS = 3;

/**
 * Longer than any claim, and than a primary that was voted out may go on answering: with `min-replicas-to-write 1` and
 * `min-replicas-max-lag 10`, or in a cluster, some ten seconds.
 */
const QUARANTINE_MS = 12_000;

export type Answer = string | number | null | readonly Answer[];

/** A connection that knows the commands. */
export interface Connection {
  readonly redis: Redis;
  /** How long nothing is changed after another server has taken over, unless the owner can be certain; milliseconds. */
  readonly quarantineMs: number;
  /** Runs a command; sends it again when no answer came. Refusals are returned, see `Refused`. */
  run(command: CommandName, keys: readonly string[], args: readonly Argument[]): Promise<Answer | Refused>;
  /** A plain Redis command that may be sent again. */
  plain<T>(send: (redis: Redis) => Promise<T>): Promise<T>;
}

export type Argument = string | number | bigint;

/** A command said no and why. */
export interface Refused {
  readonly refused: Refusal;
}

export function isRefused(answer: unknown): answer is Refused {
  return typeof answer === 'object' && answer !== null && 'refused' in answer;
}

/** Where a registry is: a URL, or the path of a unix socket. */
export function connectRedis(where: string, log: Logger, name: string): Redis {
  const redis = new Redis(where, {
    connectionName: name,
    lazyConnect: true,
    // A resent script would run twice without our knowing; what is lost is sent again here, by its request id.
    autoResendUnfulfilledCommands: false,
    // Without it a command lost with its socket would never settle.
    commandTimeout: COMMAND_TIMEOUT_MS,
    connectTimeout: 5000,
    // A command waits for the connection as long as commandTimeout allows.
    maxRetriesPerRequest: null,
    enableAutoPipelining: false,
    retryStrategy: (attempt) => Math.min(50 * attempt, 1000),
    // A primary that became a replica answers READONLY: find the new one. The command is not resent here.
    reconnectOnError: (error) => (error.message.startsWith('READONLY') ? 1 : false),
  });
  redis.on('error', (error) => log.warn({ err: error.message }, 'registry connection'));
  return redis;
}

/** Teaches a Redis client the commands. */
export function commandConnection(
  redis: Redis,
  commands: Commands = COMMANDS,
  quarantineMs = QUARANTINE_MS,
): Connection {
  for (const { name, keys, lua } of Object.values(commands)) {
    redis.defineCommand(name, { numberOfKeys: keys, lua });
  }
  const again = resender(redis);
  const scripts = redis as unknown as Record<string, (...args: Argument[]) => Promise<Answer>>;
  return {
    redis,
    quarantineMs,
    async run(command, keys, args) {
      const { name } = commands[command];
      const text = args.map(String);
      const answer = await again(() => scripts[name]!.call(redis, ...keys, ...text));
      const refused = refusalIn(answer);
      return refused === undefined ? answer : { refused };
    },
    plain: (send) => again(() => send(redis)),
  };
}

/** Sends until there is an answer: again at once when the connection that would bring it is gone. */
function resender(redis: Redis): <T>(send: () => Promise<T>) => Promise<T> {
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

  const once = <T>(send: () => Promise<T>) =>
    new Promise<T>((resolve, reject) => {
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

  return async (send) => {
    for (let sending = 1; ; sending += 1) {
      try {
        return await once(send);
      } catch (cause) {
        if (!isLost(cause)) throw cause;
        if (sending >= SENDINGS) throw unavailable(cause);
      }
    }
  };
}

function unavailable(cause: Error): MooringError {
  return new MooringError(
    'ERR_MOORING_REGISTRY_UNAVAILABLE',
    `the registry did not answer (${cause.message}); check that Redis runs and is reachable, and try again`,
    { temporary: true, retryAfterMs: 1000, cause },
  );
}

/** No answer, or one that says "not here, not now": sending again is right. */
function isLost(cause: unknown): cause is Error {
  return (
    cause instanceof Error &&
    /Command timed out|Connection is closed|Connection is in closing|ECONN|EPIPE|ENOENT|max retries|Stream isn't writeable|Socket closed|LOADING|READONLY|MASTERDOWN|NOREPLICAS/i.test(
      `${cause.message} ${cause.name}`,
    )
  );
}
