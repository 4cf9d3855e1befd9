import { randomBytes } from 'node:crypto';
import type { Redis } from 'ioredis';
import { type CommandName, type Connection, commandConnection } from '../../../src/registry/connection.ts';
import { anchorKeys } from '../../../src/registry/keys.ts';
import { MAX_LEASES } from '../../../src/registry/plan.ts';
import type { Registry, Snapshot } from '../../../src/registry/registry.ts';
import { createStore } from '../../../src/registry/store.ts';
import { type RealRedis, silent } from './real-redis.ts';

const RELAY = 'r1';
const BOOT = 'b'.repeat(16);
const CLAIM_MS = 86_400_000;
/** As relays sweep and follow. */
const SWEPT_AT_ONCE = 64;
const READ_AT_ONCE = 512;
const FILLED_AT_ONCE = 256;

/** The longest that Redis computed for one script of each name, milliseconds. */
export type Longest = Map<string, number>;

/** Anchors with as many leases as they hold, and how long Redis computes for what happens to them. */
export interface FullPool {
  readonly registry: Registry;
  readonly longest: Longest;
  /** Declares and claims an anchor and leases all of it. */
  fill(at: number): Promise<void>;
  /** As a relay that starts does: reads it whole, then what happens. */
  start(at: number): Promise<Snapshot>;
  /** Lets all leases run out at once, and ends them. How many. */
  sweep(at: number): Promise<number>;
  /** Forgets the anchor, as an emptied server does, and has its owner say what it holds. */
  loseAndReport(at: number, held: Snapshot): Promise<void>;
  /** Gives it up. */
  stop(at: number): Promise<void>;
}

export function fullPool(server: RealRedis): FullPool {
  const [redis, probe] = [server.client(), server.client()];
  const plain = commandConnection(redis, undefined, 0);
  const longest: Longest = new Map();
  const watched: Connection = {
    ...plain,
    async run(command, keys, args) {
      const before = await computedMs(probe);
      const answer = await plain.run(command, keys, args);
      const tookMs = (await computedMs(probe)) - before;
      longest.set(command, Math.max(tookMs, longest.get(command) ?? 0));
      return answer;
    },
  };
  const registry = createStore(watched, silent, async () => undefined);
  const epochs = new Map<string, bigint>();
  const name = (at: number) => `full-${at}`;
  const ask = (command: CommandName, at: number, args: readonly (string | number | bigint)[]) =>
    plain.run(command, anchorKeys(name(at)), args);

  async function declare(at: number): Promise<void> {
    await registry.declareAnchor({
      ...{ id: name(at), pool: 'p', home: RELAY, endpoints: ['198.51.100.1'] },
      ...{ sharing: 'shared', portBlock: 64, prefixes: [`10.${at >> 8}.${at & 0xff}.0/29`] },
    });
  }

  async function lease(at: number, number: number): Promise<void> {
    const id = `${name(at)}.${String(number).padStart(22, '0')}`;
    const session = [randomBytes(16).toString('base64url'), randomBytes(16).toString('base64url')];
    const device = ['t', `device-${number}`, 'k'.repeat(43)];
    await ask('grant', at, [...['', id, ...device, 'rsipsec', CLAIM_MS, 1, ...session, name(at), 'p', '-']]);
    await ask('activate', at, [epochs.get(name(at))!, id]);
  }

  return {
    registry,
    longest,
    async fill(at) {
      await declare(at);
      epochs.set(name(at), (await registry.claim(name(at), RELAY, BOOT, CLAIM_MS)).epoch);
      for (let from = 0; from < MAX_LEASES; from += FILLED_AT_ONCE) {
        const some = Array.from({ length: FILLED_AT_ONCE }, (_, one) => from + one);
        await Promise.all(some.map((one) => lease(at, one)));
      }
    },
    async start(at) {
      const whole = await registry.snapshot(name(at));
      const fence = (counter: number) =>
        whole.lastId.replace(/\d+$/, (last) => String(Number(last) - counter));
      await registry.events(name(at), fence(READ_AT_ONCE), READ_AT_ONCE);
      return whole;
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
    },
    stop: (at) => registry.release(name(at), RELAY, epochs.get(name(at))!),
  };
}

/** What the server's thread has computed so far: time that others took the processor away for is not in it. */
async function computedMs(probe: Redis): Promise<number> {
  const info = await probe.info('cpu');
  const seconds = (mode: string) =>
    Number(new RegExp(`^used_cpu_${mode}_main_thread:([\\d.]+)`, 'm').exec(info)?.[1]);
  return 1000 * (seconds('sys') + seconds('user'));
}
