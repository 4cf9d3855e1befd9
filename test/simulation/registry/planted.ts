import type { Mutation } from '../mutants.ts';
import type { Scene } from './schedule.ts';

/** In which command (null: in each that has it), and what is replaced by what. */
type InScript = readonly [command: string | null, ...fromAndTo: string[]];

export const IN_SCRIPTS: Readonly<Record<string, InScript>> = {
  'a claim before the owner’s has run out': ['claim', 'current.untilMs > now', 'false'],
  'an epoch that does not rise': [
    'claim',
    "redis.call('HINCRBY', META, 'epoch', 1)",
    "tonumber(redis.call('HGET', META, 'epoch'))",
  ],
  'a quarantine that is skipped': [null, 'if of[1] and of[1] ~= server then', 'if false then'],
  'an epoch after a quarantine that may have been given before': [
    null,
    /* the whole raise */ 'tonumber(of[3] or 0), now) + EPOCHS_LOST + now % EPOCHS_LOST',
    'tonumber(of[3] or 0)) + 1',
  ],
  'a lease that is not put back': ['restore', 'if lost and session and isNews', 'if false and isNews'],
  'a lease that is put back though this data knows its end': [
    'restore',
    'if not stored and hasEnded(',
    'if false and hasEnded(',
  ],
  'a refused claim that ends a quarantine': [
    'claim',
    'local current = owner()',
    'if endsQuarantine then endQuarantine() end local current = owner()',
  ],
  'cooling that is skipped': [null, 'now + coolingMs', 'now'],
  'a repeated request that is granted again': [
    'grant',
    'local known = leaseOfRequest(session)',
    'local known = nil',
  ],
  'an intent that does not stand': [
    'intend',
    ...['if answer then', 'if false then'],
    ...["ARGV[4] == '1' and former or ", ''],
  ],
  'a fence that skips a number': [null, "'counter', 1)", "'counter', 2)"],
};

const OWNERSHIP = 'src/ownership/ownership.ts';
const STANDBY = 'src/ownership/standby.ts';
export const IN_ACTORS: readonly Mutation[] = [
  one(
    'a deadline that moves without an answer',
    OWNERSHIP,
    "log.warn({ err: error, anchor, untilMs: one.untilMs }, 'ownership: not renewed');",
    'forwardUntil(anchor, one, sentMs + forMs);',
  ),
  {
    name: 'a promise that is not kept',
    edits: [
      {
        file: STANDBY,
        find: 'one.promisedUntilMs = nowMs + promiseMs;\n      watch(anchor, one, promiseMs);',
        replace: '',
      },
    ],
  },
  one(
    'a start that gives up in a quarantine',
    'src/ownership/starting.ts',
    "isCode(error, 'ERR_MOORING_REGISTRY_UNAVAILABLE') || isCode(error, 'ERR_MOORING_QUARANTINED');",
    "isCode(error, 'ERR_MOORING_REGISTRY_UNAVAILABLE');",
  ),
  one(
    'a former owner that does not say what nobody else knew',
    'src/relay/kept-anchors.ts',
    'if (toldUnder.get(anchor) === epoch) return;',
    'if (epoch > 0n) return;',
  ),
  one(
    'a start that goes on by its journal without a promise of its standby',
    'src/relay/carrying.ts',
    'standby === null ? timers.nowMs() + leftMs : Number.NEGATIVE_INFINITY',
    'timers.nowMs() + leftMs',
  ),
  one(
    'an acknowledgement before the lease is on the disk',
    'src/relay/plane.ts',
    'anchor.witness(lease.id),',
    '',
  ),
  one(
    'an older epoch that is served after a newer',
    'src/relay/node.ts',
    'const isCurrent = () => turns.get(anchor) === turn;',
    'const isCurrent = () => true;',
  ),
  one(
    'a claim that the registry is to hold no longer than its owner',
    'src/registry/hold.ts',
    'return Math.ceil(ttlMs * (1 + CLOCK_DRIFT)) + LATE_STOP_MS;',
    'return Math.ceil(ttlMs * (1 - 5 * CLOCK_DRIFT));',
  ),
  one(
    'an acknowledgement before the lease is active',
    'src/relay/plane.ts',
    "lease.state === 'active' ? lease : activate(lease.id, anchor)",
    'lease',
  ),
];

function one(name: string, file: string, find: string, replace: string): Mutation {
  return { name, edits: [{ file, find, replace }] };
}

/** What a fault needs that shows seldom otherwise. */
export const SCENES: Readonly<Record<string, Scene>> = {
  'a former owner that does not say what nobody else knew': 'begunAnew',
  'a lease that is put back though this data knows its end': 'unheard',
  'a start that goes on by its journal without a promise of its standby': 'carriedOn',
  'an older epoch that is served after a newer': 'caught',
};
