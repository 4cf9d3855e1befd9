/**
 * What Redis itself could do: the least that a script must write for a grant or a path hint, sent by redis-benchmark
 * over one connection with as many under way as we have.
 */
import type { Lab, Namespace } from '../../lab/lab.ts';
import type { BenchRedis } from './server.ts';

export interface Floor {
  /** Operations a second. */
  grant(count: number): Promise<number>;
  hint(count: number): Promise<number>;
}

/** A lease and its event, as long as ours. */
const RECORD = 'x'.repeat(450);
const HINT = 'x'.repeat(130);
/** Distinct leases that are written. */
const LEASES = '100000';

const GRANT = `
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
redis.call('ZADD', KEYS[2], 1, ARGV[1])
redis.call('XADD', KEYS[3], 'MAXLEN', '~', 512, '*', 'event', ARGV[2])
return ARGV[2]`;
const PUT_HINT = `
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
return 1`;

export async function createFloor(
  lab: Lab,
  host: Namespace,
  redis: BenchRedis,
  width: number,
): Promise<Floor> {
  const [grant, hint] = await Promise.all([redis.script(GRANT), redis.script(PUT_HINT)]);
  const run = async (count: number, words: readonly string[]): Promise<number> => {
    const { stdout } = await lab.run(host, [
      ...['redis-benchmark', '-s', redis.socket, '-c', '1', '-P', String(width), '-n', String(count)],
      ...['-r', LEASES, '--csv', 'EVALSHA', ...words],
    ]);
    // The command, then rate, average, least, p50, p95, p99 and most.
    const [, rate] = /"([\d.]+)"(?:,"[\d.]+"){6}\s*$/.exec(stdout) ?? [];
    if (rate === undefined) throw new Error(`redis-benchmark did not tell:\n${stdout}`);
    return Number(rate);
  };
  const key = (part: string) => `{floor}:${part}`;
  return {
    grant: (count) =>
      run(count, [grant, '3', key('leases'), key('expiries'), key('events'), '__rand_int__', RECORD]),
    hint: (count) => run(count, [hint, '1', key('hints'), '__rand_int__', HINT]),
  };
}
