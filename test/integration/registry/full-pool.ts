import { randomBytes } from 'node:crypto';
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { Redis } from 'ioredis';
import {
  type Answer,
  type CommandName,
  type Connection,
  commandConnection,
  type Refused,
} from '../../../src/registry/connection.ts';
import { gatherWrites } from '../../../src/registry/gathering.ts';
import { anchorKeys } from '../../../src/registry/keys.ts';
import { MAX_LEASES } from '../../../src/registry/plan.ts';
import type { AnchorDeclaration, Registry, Snapshot } from '../../../src/registry/registry.ts';
import { createStore } from '../../../src/registry/store.ts';
import { type RealRedis, silent } from './real-redis.ts';

const RELAY = 'r1';
const BOOT = 'b'.repeat(16);
const CLAIM_MS = 86_400_000;
/** As relays sweep and follow. */
const SWEPT_AT_ONCE = 64;
const READ_AT_ONCE = 512;
const FILLED_AT_ONCE = 256;
/** Whose devices they are; each is on every anchor. */
const TENANTS = 256;

/**
 * The longest that Redis computed for what one turn of the event loop sent it, milliseconds, by the commands in it: Redis
 * takes all of that from the socket as one piece, and serves nobody else meanwhile.
 */
export type Longest = Map<string, number>;

/** Anchors with as many leases as they hold, and how long Redis computes for what happens to them. */
export interface FullPool {
  readonly registry: Registry;
  readonly longest: Longest;
  /** Declares and claims an anchor and leases all of it. */
  fill(at: number): Promise<void>;
  /** As a relay that starts does: reads it whole, then what happens. */
  start(at: number): Promise<Snapshot>;
  /** As an owner does when Redis was away: puts the ends of all leases off. */
  stretch(at: number, held: Snapshot): Promise<void>;
  /** Takes half of its addresses out, limits its tenants, and takes both back. */
  change(at: number): Promise<void>;
  /** Lets all leases run out at once, and ends them. How many. */
  sweep(at: number): Promise<number>;
  /** Forgets the anchor, as an emptied server does, and has its owner say what it holds. */
  loseAndReport(at: number, held: Snapshot): Promise<void>;
  /** Gives it up. */
  stop(at: number): Promise<void>;
}

export function fullPool(server: RealRedis): FullPool {
  const redis = server.client();
  gatherWrites(redis);
  const plain = commandConnection(redis, undefined, 0);
  const { watched, longest, idle } = watching(plain, server.client());
  const registry = createStore(watched, silent, async () => undefined);
  const epochs = new Map<string, bigint>();
  const name = (at: number) => `full-${at}`;
  const prefix = (at: number, bits: number) => `10.${at >> 8}.${at & 0xff}.0/${bits}`;
  const ask = (command: CommandName, at: number, args: readonly (string | number | bigint)[]) =>
    plain.run(command, anchorKeys(name(at)), args);

  async function declare(at: number, changed: Partial<AnchorDeclaration> = {}): Promise<void> {
    await registry.declareAnchor({
      ...{ id: name(at), pool: 'p', home: RELAY, endpoints: ['198.51.100.1'] },
      ...{ sharing: 'shared', portBlock: 64, prefixes: [prefix(at, 29)] },
      ...changed,
    });
  }

  /** Its id. */
  async function grant(at: number, number: number): Promise<string> {
    const id = `${name(at)}.${String(number).padStart(22, '0')}`;
    const session = [randomBytes(16).toString('base64url'), randomBytes(16).toString('base64url')];
    const device = [`t${number % TENANTS}`, `device-${at}-${number}`, 'k'.repeat(43)];
    await ask('grant', at, [...['', id, ...device, 'rsipsec', CLAIM_MS, 1, ...session, name(at), 'p', '-']]);
    return id;
  }

  return {
    registry,
    longest,
    async fill(at) {
      await declare(at);
      epochs.set(name(at), (await registry.claim(name(at), RELAY, BOOT, CLAIM_MS)).epoch);
      for (let from = 0; from < MAX_LEASES; from += FILLED_AT_ONCE) {
        const some = Array.from({ length: FILLED_AT_ONCE }, (_, one) => from + one);
        const granted = await Promise.all(some.map((one) => grant(at, one)));
        await ask('activate', at, [epochs.get(name(at))!, ...granted]);
      }
    },
    async start(at) {
      const whole = await registry.snapshot(name(at));
      const fence = (counter: number) =>
        whole.lastId.replace(/\d+$/, (last) => String(Number(last) - counter));
      await registry.events(name(at), fence(READ_AT_ONCE), READ_AT_ONCE);
      return whole;
    },
    async stretch(at, { leases }) {
      const ends = leases.map(({ id }) => ({ id, remainingMs: 2 * CLAIM_MS }));
      await registry.stretch(name(at), epochs.get(name(at))!, ends);
    },
    async change(at) {
      await declare(at, { prefixes: [prefix(at, 30)], maxLeasesPerTenant: 8 });
      await declare(at);
    },
    async sweep(at) {
      const expiries = anchorKeys(name(at)).find((key) => key.endsWith(':expiries'))!;
      await redis.zunionstore(expiries, 1, expiries, 'WEIGHTS', 0);
      let ended = 0;
      for (let more = true; more; ) {
        const swept = await registry.sweep(name(at), epochs.get(name(at))!, SWEPT_AT_ONCE);
        ended += swept.ended.length;
        more = swept.more;
      }
      return ended;
    },
    async loseAndReport(at, held) {
      const plan = await registry.plan(name(at));
      await redis.unlink(...anchorKeys(name(at)));
      await declare(at);
      const { lastId, epoch, leases, sessions } = held;
      const counter = BigInt(lastId.slice(lastId.indexOf('-') + 1));
      const claimed = registry.claim(name(at), RELAY, BOOT, CLAIM_MS, false, epoch);
      await claimed.catch((error: { code?: string }) => {
        if (error.code !== 'ERR_MOORING_QUARANTINED') throw error;
      });
      const report = { relay: RELAY, boot: BOOT, epoch, counter, hasStandby: false, leases, sessions, plan };
      epochs.set(name(at), (await registry.report(name(at), report, CLAIM_MS)).epoch);
      // Devices are told behind it.
      await idle();
    },
    stop: (at) => registry.release(name(at), RELAY, epochs.get(name(at))!),
  };
}

interface Turn {
  readonly begun: Promise<void>;
  readonly measured: Promise<void>;
  readonly commands: CommandName[];
  readonly sent: Promise<Answer | Refused>[];
}

/** A connection that gives Redis nothing else to do than what one turn of the event loop sends, and notes how long it computes. */
function watching(
  plain: Connection,
  probe: Redis,
): { readonly watched: Connection; readonly longest: Longest; idle(): Promise<void> } {
  const longest: Longest = new Map();
  let open: Turn | undefined;
  let last: Promise<void> = Promise.resolve();

  function begin(): Turn {
    const [before, commands, sent]: [Promise<void>, Turn['commands'], Turn['sent']] = [last, [], []];
    const computed = (async () => {
      await nextTurn();
      open = undefined;
      await before;
      return computedMs(probe);
    })();
    const measured = (async () => {
      const beganMs = await computed;
      await Promise.allSettled(sent);
      const tookMs = (await computedMs(probe)) - beganMs;
      const name = [...new Set(commands)].join(' + ');
      longest.set(name, Math.max(tookMs, longest.get(name) ?? 0));
    })();
    last = measured;
    return { begun: computed.then(() => undefined), measured, commands, sent };
  }

  return {
    longest,
    watched: {
      ...plain,
      async run(command, keys, args) {
        open ??= begin();
        const { begun, measured, commands, sent } = open;
        const answer = begun.then(() => plain.run(command, keys, args));
        commands.push(command);
        sent.push(answer);
        await measured;
        return answer;
      },
    },
    async idle() {
      for (let seen: unknown; seen !== last; ) {
        seen = last;
        await last;
        await nextTurn();
      }
    },
  };
}

/**
 * What the server's thread has computed so far: time that others took the processor away for is not in it. The kernel's count
 * is exact where the thread has slept since, and else as old as its last tick.
 */
async function computedMs(probe: Redis): Promise<number> {
  const info = await probe.info('cpu');
  const seconds = (mode: string) =>
    Number(new RegExp(`^used_cpu_${mode}_main_thread:([\\d.]+)`, 'm').exec(info)?.[1]);
  return 1000 * (seconds('sys') + seconds('user'));
}
