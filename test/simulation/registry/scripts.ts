import { assembleCommands } from '../../../infra/build/lua.ts';
import type { Commands } from '../../../src/registry/connection.ts';

/** Pending grants are taken back after so long here; the scripts say 10 s. */
export const PENDING_MS = 1_500;

/** What each call names behind a script's own arguments. */
const HEAD = `ARGV.heard = table.remove(ARGV)
ARGV.server = table.remove(ARGV)
ARGV.nowMs = tonumber(table.remove(ARGV))
redis.call('SELECT', table.remove(ARGV))`;

/** Of a script that was made with `simulatedCommands`: what it answered, and what it has said in the stream since `heard`. */
export type Said = readonly [
  answer: unknown,
  entries: readonly (readonly [fence: string, fields: string[]])[],
];

/**
 * The product's scripts on a database, clock and server that each call names; perhaps with a fault. The answer of one that can
 * publish events is as in `Said`.
 */
export function simulatedCommands(mutate?: (command: string, lua: string) => string): Commands {
  let pendings = 0;
  const { commands } = assembleCommands({
    replace: { now: 'local now = ARGV.nowMs', server: 'local server = ARGV.server' },
    mutate(command, lua) {
      const shorter = lua.replace(/(PENDING_MS = )10000\b/g, (_, name) => {
        pendings += 1;
        return `${name}${PENDING_MS}`;
      });
      const script = mutate?.(command, shorter) ?? shorter;
      if (!canPublish(script)) return `${HEAD}\n${script}`;
      return `${HEAD}
local answer = (function()
${script}
end)()
return { answer or false, redis.call('XRANGE', KEYS[${streamAt(script)}], '(' .. ARGV.heard, '+') }`;
    },
  });
  if (pendings === 0) throw new Error('no script says how long a grant may stay pending');
  return commands as unknown as Commands;
}

export function canPublish(lua: string): boolean {
  return lua.includes('publish(');
}

/** Which of an anchor's keys is its stream. */
function streamAt(lua: string): number {
  const names = /local ([A-Z][A-Z_, ]*?)\s*=\s*unpack\(KEYS\)/.exec(lua)![1]!.split(/,\s*/);
  return 1 + names.indexOf('STREAM');
}

export const CLEAR = `for _, database in ipairs(ARGV) do
redis.call('SELECT', database)
redis.call('FLUSHDB')
end`;

export const COPY = `redis.call('SELECT', ARGV[2])
redis.call('FLUSHDB')
redis.call('SELECT', ARGV[1])
for _, key in ipairs(redis.call('KEYS', '*')) do
redis.call('COPY', key, key, 'DB', ARGV[2], 'REPLACE')
end`;
