import { threadsMs } from '../processor.ts';
import type { Taken } from './load.ts';

/** What an operation takes of the machine beside its time. */
export interface Spent extends Taken {
  /** Processor time an operation, microseconds: of the program that is measured, and of Redis. */
  readonly programUs: number;
  readonly redisUs: number;
}

/** Runs a load and accounts for the processor time of processes, all their threads included. */
export async function spending(
  program: number,
  servers: readonly number[],
  load: () => Promise<Taken>,
): Promise<Spent> {
  const sum = () => servers.reduce((ms, pid) => ms + threadsMs(pid), 0);
  const before = { program: threadsMs(program), servers: sum() };
  const taken = await load();
  const each = (ms: number) => (1000 * ms) / taken.count;
  return {
    ...taken,
    programUs: each(threadsMs(program) - before.program),
    redisUs: each(sum() - before.servers),
  };
}
