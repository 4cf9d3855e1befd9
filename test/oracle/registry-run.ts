import { randomBytes } from 'node:crypto';
import fc from 'fast-check';
import { assembleCommands } from '../../infra/build/lua.ts';
import type { Lease, Session } from '../../src/protocol/lease.ts';
import {
  type CommandName,
  type Commands,
  type Connection,
  isRefused,
} from '../../src/registry/connection.ts';
import { anchorKeys } from '../../src/registry/keys.ts';
import { eventFrom, leaseFrom } from '../../src/registry/records.ts';
import { type Refusal, refusalIn } from '../../src/registry/refusals.ts';
import { createStore } from '../../src/registry/store.ts';
import { silent } from '../integration/registry/real-redis.ts';
import { LeaseModel, type ModelLease, type Verdict } from './lease-model.ts';

/** The scripts with a clock that the test turns, and perhaps a fault. */
export function commandsWithTestClock(mutate?: (command: string, lua: string) => string): Commands {
  const replace = {
    now: "local now = tonumber(redis.call('GET', 'test:now'))",
    server: "local server = redis.call('GET', 'test:server') or 'first'",
  };
  return assembleCommands(mutate === undefined ? { replace } : { replace, mutate })
    .commands as unknown as Commands;
}

/** The same with a fault: `from` in any script, or in that of one command alone, is `to`. Throws when no script has it. */
export function commandsWithFault(from: string, to: string, only?: CommandName): Commands {
  let planted = 0;
  const commands = commandsWithTestClock((command, lua) => {
    if (!lua.includes(from) || (only !== undefined && command !== only)) return lua;
    planted += 1;
    return lua.replace(from, to);
  });
  if (planted === 0) throw new Error(`no script has ${from}`);
  return commands;
}

export type Op =
  | { op: 'grant'; device: number; leaseMs: number; again: number | null }
  | { op: 'activate'; lease: number }
  | { op: 'withdraw'; lease: number }
  | { op: 'extend'; lease: number; device: number | null; leaseMs: number; doubled: number; twice: boolean }
  | { op: 'free'; lease: number; device: number | null; twice: boolean }
  | { op: 'attach'; lease: number; key: number }
  | { op: 'advance'; ms: number }
  | { op: 'sweep' }
  | { op: 'claim' };

const anyLease = fc.nat(7);
const device = fc.nat(3);
const maybe = fc.option(device, { nil: null, freq: 4 });
const leaseMs = fc.integer({ min: 1000, max: 40_000 });

export const anyOp: fc.Arbitrary<Op> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      op: fc.constant('grant' as const),
      device,
      leaseMs,
      again: fc.option(fc.nat(9), { nil: null, freq: 2 }),
    }),
  },
  { weight: 4, arbitrary: fc.record({ op: fc.constant('activate' as const), lease: anyLease }) },
  { weight: 1, arbitrary: fc.record({ op: fc.constant('withdraw' as const), lease: anyLease }) },
  {
    weight: 4,
    arbitrary: fc.record({
      op: fc.constant('extend' as const),
      lease: anyLease,
      device: maybe,
      leaseMs,
      // So often the ports that a share has at first.
      doubled: fc.nat(3),
      twice: fc.boolean(),
    }),
  },
  {
    weight: 3,
    arbitrary: fc.record({
      op: fc.constant('free' as const),
      lease: anyLease,
      device: maybe,
      twice: fc.boolean(),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({ op: fc.constant('attach' as const), lease: anyLease, key: fc.nat(2) }),
  },
  {
    weight: 3,
    arbitrary: fc.record({ op: fc.constant('advance' as const), ms: fc.integer({ min: 1, max: 30_000 }) }),
  },
  { weight: 2, arbitrary: fc.record({ op: fc.constant('sweep' as const) }) },
  { weight: 1, arbitrary: fc.record({ op: fc.constant('claim' as const) }) },
);

export interface Layout {
  readonly sharing: 'whole' | 'shared';
  readonly prefixes: readonly string[];
  readonly portBlock: number;
  readonly maxPortBlock: number;
  readonly capacity: number;
}

const PLAIN = { portBlock: 64, maxPortBlock: 64 };

export const LAYOUTS: readonly Layout[] = [
  { sharing: 'whole', prefixes: ['192.0.2.4/30'], ...PLAIN, capacity: 4 },
  { sharing: 'whole', prefixes: ['192.0.2.7/32', '2001:db8::2/127'], ...PLAIN, capacity: 3 },
  { sharing: 'shared', prefixes: ['192.0.2.9/32'], portBlock: 16_384, maxPortBlock: 32_768, capacity: 3 },
  { sharing: 'shared', prefixes: ['192.0.2.8/31'], portBlock: 32_768, maxPortBlock: 32_768, capacity: 2 },
  { sharing: 'shared', prefixes: ['192.0.2.9/32'], portBlock: 4_096, maxPortBlock: 16_384, capacity: 15 },
];

const VERDICTS: Readonly<Partial<Record<Refusal, Verdict>>> = {
  EXHAUSTED: 'exhausted',
  BAD_BIND: 'bad-bind',
  PORTS_UNAVAILABLE: 'ports-unavailable',
  WITHDRAWN: 'withdrawn',
  REQUEST_ENDED: 'ended',
  NOT_PENDING: 'not-pending',
  NO_OWNER: 'no-owner',
};
const COOLING_MS = 20_000;
const FOR_EVER_MS = 1e12;

let anchors = 0;

/** Runs operations against scripts and model side by side; throws where they part or an invariant breaks. */
export async function runAgainstModel(
  connection: Connection,
  layout: Layout,
  ops: readonly Op[],
): Promise<void> {
  anchors += 1;
  const anchor = `t${anchors}`;
  const { redis } = connection;
  const store = createStore(connection, silent, async () => undefined);
  const model = new LeaseModel(layout.capacity, COOLING_MS);
  const requests: { request: string; device: number; id?: string }[] = [];
  const ids: string[] = [];
  let epoch = 0n;
  const setClock = async (nowMs: number) => {
    model.nowMs = nowMs;
    await redis.set('test:now', nowMs);
  };
  const ask = (command: CommandName, ...args: (string | number)[]) =>
    connection.run(command, anchorKeys(anchor), args);
  const leaseAt = (at: number): ModelLease | undefined =>
    ids.length === 0 ? undefined : model.leases.get(ids[at % ids.length]!);

  await setClock(1_700_000_000_000);
  const declared = await store.declareAnchor({
    id: anchor,
    pool: 'p',
    endpoints: ['198.51.100.1'],
    coolingMs: COOLING_MS,
    home: 'r',
    ...layout,
  });
  same('capacity', declared.capacity, layout.capacity);
  const claim = async () => {
    const won = await store.claim(anchor, 'r', randomBytes(8).toString('hex'), FOR_EVER_MS);
    same('epoch after a claim', won.epoch, epoch + 1n);
    epoch = won.epoch;
  };
  await claim();

  for (const op of ops) {
    switch (op.op) {
      case 'grant': {
        const former = op.again === null ? undefined : requests[op.again];
        const wish = former ?? { request: `q${requests.length}`, device: op.device };
        if (former === undefined) requests.push(wish);
        const expected = model.expectGrant(wish.request, `t/${wish.device}`);
        const known = model.requests.get(wish.request)?.lease;
        const id = `${anchor}.${wish.request.padEnd(22, '-')}`;
        const answer = await ask(
          'grant',
          ...['', id, 't', wish.device, key(0), kindOf(layout)],
          op.leaseMs,
          ...[requests.length, hex(), hex(), anchor, 'p'],
        );
        if (isRefused(answer)) {
          same(`refusal of grant ${wish.request}`, VERDICTS[answer.refused] ?? answer.refused, expected);
          model.refused(wish.request, expected);
          break;
        }
        same(`answer to grant ${wish.request}`, 'ok', expected);
        const lease = leaseFrom((answer as [number, string])[1], model.nowMs);
        if (known !== undefined) {
          same(`lease of the repeated request ${wish.request}`, lease.id, known);
          break;
        }
        same('lease id', lease.id, id);
        const got = { slot: slotsOf(lease, layout)[0]!, spis: spisOf(lease) };
        const wrong = model.granted(wish.request, `t/${wish.device}`, id, got, op.leaseMs);
        if (wrong !== undefined) throw new Error(wrong);
        ids.push(id);
        break;
      }
      case 'activate': {
        const id = ids[op.lease % Math.max(ids.length, 1)];
        if (id === undefined) break;
        const lease = model.leases.get(id);
        const [, answer] = (await ask('activate', String(epoch), id)) as unknown as [number, number | string];
        const usable = lease !== undefined && !model.over(lease);
        same(`activate ${id}`, refusalIn(answer) ?? 'ok', usable ? 'ok' : 'WITHDRAWN');
        if (usable) lease.state = 'active';
        break;
      }
      case 'withdraw': {
        const lease = leaseAt(op.lease);
        if (lease === undefined) break;
        const answer = await ask('withdraw', lease.id);
        same(`withdraw ${lease.id}`, isRefused(answer), lease.state === 'active');
        if (lease.state === 'pending') model.end(lease, 'withdrawn');
        break;
      }
      case 'extend': {
        const id = ids[op.lease % Math.max(ids.length, 1)];
        if (id === undefined) break;
        const who = op.device ?? Number(model.leases.get(id)?.device.slice(2) ?? 0);
        const lease = model.heldBy(id, `t/${who}`);
        const held = lease?.state === 'active' ? lease : undefined;
        const ports = op.doubled === 0 ? '' : layout.portBlock * 2 ** op.doubled;
        const request = hex();
        let isDone = false;
        for (let sending = 0; sending < (op.twice ? 2 : 1); sending += 1) {
          const slots = held === undefined ? null : slotsDoubled(held, Number(ports), layout);
          const asked = held === undefined ? 'bad-bind' : isDone ? 'ok' : model.expectDoubled(held, slots);
          const answer = await ask('extend', request, id, 't', who, op.leaseMs, ports);
          const said = isRefused(answer) ? (VERDICTS[answer.refused] ?? answer.refused) : 'ok';
          same(`extend ${id} to ${ports} ports`, said, asked);
          if (held !== undefined && asked === 'ok' && !isDone) {
            model.doubled(held, slots ?? []);
            held.expiresAtMs = model.nowMs + op.leaseMs;
            isDone = true;
          }
          if (op.twice) await setClock(model.nowMs + 1);
        }
        break;
      }
      case 'free': {
        const id = ids[op.lease % Math.max(ids.length, 1)];
        if (id === undefined) break;
        const who = op.device ?? Number(model.leases.get(id)?.device.slice(2) ?? 0);
        const lease = model.heldBy(id, `t/${who}`);
        const request = hex();
        for (let sending = 0; sending < (op.twice ? 2 : 1); sending += 1) {
          const answer = await ask('free', request, id, 't', who);
          same(
            `free ${id}`,
            isRefused(answer) ? answer.refused : 'ok',
            lease === undefined ? 'BAD_BIND' : 'ok',
          );
        }
        if (lease !== undefined) model.end(lease, 'ended');
        break;
      }
      case 'attach': {
        const lease = leaseAt(op.lease);
        if (lease === undefined) break;
        const held = model.heldBy(lease.id, lease.device) !== undefined;
        const answer = await ask('attach', lease.id, 't', lease.device.slice(2), key(op.key), hex(), hex());
        same(`attach ${lease.id}`, isRefused(answer), !held);
        break;
      }
      case 'advance':
        await setClock(model.nowMs + op.ms);
        break;
      case 'sweep': {
        const swept = await store.sweep(anchor, epoch, 100);
        const expected = model.sweep().sort().join();
        same(
          'swept',
          swept.ended
            .map(({ lease }) => lease.id)
            .sort()
            .join(),
          expected,
        );
        break;
      }
      case 'claim':
        await claim();
        break;
    }
    await compare(anchor);
  }
  await checkStream(anchor);

  async function compare(id: string): Promise<void> {
    const { leases, sessions } = await store.snapshot(id);
    same('leases', list(leases.map(show)), list([...model.leases.values()].map(showModel)));
    const leased = leases.flatMap((lease) => slotsOf(lease, layout));
    same('each resource once', new Set(leased).size, leased.length);
    checkSessions(leases, sessions);
    const of = await redis.hmget(anchorKeys(id)[0]!, 'frontier', 'capacity', 'extraSlots');
    const [frontier, capacity, extra] = of.map(Number) as [number, number, number];
    // As good as new are those that were passed over.
    const passed = await redis.zcount(anchorKeys(id)[5]!, 0, 0);
    const resting = (await redis.zcard(anchorKeys(id)[5]!)) - passed;
    const free = capacity - frontier + passed;
    same('free + leased + cooling', free + leased.length + resting, layout.capacity);
    same('cooling', resting, model.resting.size);
    same('slots that leases have doubled into', extra, leased.length - leases.length);
  }

  function show(lease: Lease): string {
    const { id: name, device: of, state, remainingMs } = lease;
    const slots = list(slotsOf(lease, layout));
    return `${name} ${of.tenant}/${of.id} ${slots} ${spisOf(lease)} ${state} ${remainingMs}`;
  }

  function showModel({ id: name, device: of, slots, spis, state, expiresAtMs }: ModelLease): string {
    return `${name} ${of} ${list(slots)} ${spis} ${state} ${expiresAtMs - model.nowMs}`;
  }

  async function checkStream(id: string): Promise<void> {
    const entries = await redis.xrange(anchorKeys(id)[9]!, '-', '+');
    const live = new Map<string, Lease>();
    let lastEpoch = 0;
    entries.forEach(([fence, fields], at) => {
      const event = eventFrom(fence, fields[1]!, { anchor: id, pool: 'p', nowMs: model.nowMs });
      if ('lease' in event) same('fence and stream id', event.lease.fence, fence);
      const [of, counter] = fence.split('-').map(Number);
      same('counter', counter, at + 1);
      if (of! < lastEpoch) throw new Error(`epoch fell from ${lastEpoch} to ${of}`);
      lastEpoch = of!;
      if (!('lease' in event)) return;
      if (event.type === 'ended') live.delete(event.lease.id);
      else live.set(event.lease.id, event.lease);
    });
    // Whoever only follows the stream knows the same leases as whoever takes a snapshot.
    same('leases by the stream', list([...live.keys()]), list([...model.leases.keys()]));
  }
}

function checkSessions(leases: readonly Lease[], sessions: readonly Session[]): void {
  const byId = new Map(sessions.map((session) => [session.id, session]));
  for (const lease of leases) {
    same(`device of the session of ${lease.id}`, byId.get(lease.session)?.device.id, lease.device.id);
  }
  same('a session a device', sessions.length, new Set(leases.map((lease) => lease.device.id)).size);
  same('session indexes', new Set(sessions.map((session) => session.index)).size, sessions.length);
}

/** A name for each address, or for each port block of it that is a share. */
function slotsOf({ address, ports }: Lease, { portBlock }: Layout): string[] {
  if (ports === null) return [`${address} -`];
  return Array.from(
    { length: ports.count / portBlock },
    (_, at) => `${address} ${ports.first + at * portBlock}`,
  );
}

/** The slots of a lease when it has at least so many ports; null where there is no such block. */
function slotsDoubled(
  { slots }: ModelLease,
  ports: number,
  { sharing, portBlock, maxPortBlock }: Layout,
): readonly string[] | null {
  if (ports <= slots.length * portBlock) return sharing === 'whole' && ports > 0 ? null : slots;
  const [address, port] = slots[0]!.split(' ');
  const first = Number(port) - (Number(port) % ports);
  if (sharing === 'whole' || ports > maxPortBlock || first < 1024) return null;
  return Array.from({ length: ports / portBlock }, (_, at) => `${address} ${first + at * portBlock}`);
}

function spisOf({ spis, ikeSpis }: Lease): string {
  return `${spis?.first ?? '-'} ${ikeSpis?.first ?? '-'}`;
}

function kindOf({ sharing }: Layout): string {
  return sharing === 'whole' ? 'rsa-ip' : 'rsipsec';
}

function key(number: number): string {
  return String(number).repeat(43);
}

function hex(): string {
  return randomBytes(16).toString('hex');
}

function list(lines: readonly string[]): string {
  return [...lines].sort().join('\n');
}

function same(what: string, is: unknown, expected: unknown): void {
  if (is !== expected) throw new Error(`${what}: ${is}, the model says ${expected}`);
}
