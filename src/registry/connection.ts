import type { Redis } from 'ioredis';
import { createRandomPool } from '../linux/random-pool.ts';
import { COMMANDS } from './commands.gen.ts';
import { QUARANTINE_MS } from './hold.ts';
import type { RedisClient } from './reaching.ts';
import { type Refusal, refusalIn } from './refusals.ts';
import { type Pace, resender } from './sending.ts';

export type CommandName = keyof typeof COMMANDS;
/** The scripts to run: the generated ones; tests put their own clock or a fault into them. */
export type Commands = Readonly<
  Record<CommandName, { readonly name: string; readonly keys: number; readonly lua: string }>
>;

export type Answer = string | number | null | readonly Answer[];

/** A connection that knows the commands. */
export interface Connection {
  readonly redis: RedisClient;
  /** How long nothing is changed after another server has taken over, unless the owner can be certain; milliseconds. */
  readonly quarantineMs: number;
  /** Random octets: what ids and attempts are made of. */
  readonly random: Random;
  /** Runs a command; sends it again when no answer came. Refusals are returned, see `Refused`. */
  run(command: CommandName, keys: readonly string[], args: readonly Argument[]): Promise<Answer | Refused>;
  /** A plain Redis command that may be sent again, on one key. */
  plain<T>(send: (redis: Redis) => Promise<T>): Promise<T>;
}

export type Random = (octets: number) => Buffer;

/** A grant needs four draws, each of which would be a system call. */
const fromPool = createRandomPool();
const randomOctets: Random = (octets) => Buffer.from(fromPool(octets).buffer);

export type Argument = string | number | bigint;

/** A command said no and why. */
export interface Refused {
  readonly refused: Refusal;
}

export function isRefused(answer: unknown): answer is Refused {
  return typeof answer === 'object' && answer !== null && 'refused' in answer;
}

/** Teaches a Redis client the commands. */
export function commandConnection(
  redis: RedisClient,
  commands: Commands = COMMANDS,
  quarantineMs = QUARANTINE_MS,
  pace?: Pace,
  random: Random = randomOctets,
): Connection {
  for (const { name, keys, lua } of Object.values(commands)) {
    redis.defineCommand(name, { numberOfKeys: keys, lua });
  }
  const again = resender(redis, pace);
  const scripts = redis as unknown as Record<string, (...args: Argument[]) => Promise<Answer>>;
  return {
    redis,
    quarantineMs,
    random,
    async run(command, keys, args) {
      const { name } = commands[command];
      const text = args.map(String);
      const answer = await again(() => scripts[name]!.call(redis, ...keys, ...text));
      const refused = refusalIn(answer);
      return refused === undefined ? answer : { refused };
    },
    // A cluster's client has the same commands on one key.
    plain: (send) => again(() => send(redis as Redis)),
  };
}
