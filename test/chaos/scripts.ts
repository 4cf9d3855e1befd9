import { randomBytes } from 'node:crypto';
import type { RedisShape } from '../../infra/lab/redis-shapes.ts';
import type { Lease } from '../../src/protocol/lease.ts';
import { anchorKeys } from '../../src/registry/keys.ts';
import { extend } from '../../src/signalling/requests/extend.ts';
import { free } from '../../src/signalling/requests/free.ts';
import { lease } from '../../src/signalling/requests/lease.ts';
import { callerOf, openDoor, persist } from './door.ts';
import { factsOf } from './history.ts';
import { soon, type World } from './world.ts';

/** A device that a script moves step by step. */
export interface Puppet {
  /** Granted and acknowledged; throws when it is not, within some seconds. */
  leases(pool?: 'whole' | 'shared'): Promise<Lease>;
  extends(one: Lease): Promise<Lease>;
  frees(one: Lease): Promise<void>;
}

/** Devices behind a signalling node in the test's own process. */
export async function puppets(world: World): Promise<{
  device(name: string): Promise<Puppet>;
  /** A device whose next lease of the pool is at the same primary as an anchor: it had one there. */
  near(anchor: string, pool: 'whole' | 'shared'): Promise<Puppet>;
  close(): Promise<void>;
}> {
  const { recorder, scene } = world;
  const door = await openDoor(scene, 'puppets', recorder);
  const SENDINGS = 40;
  let frames = 0;
  const id = () => {
    frames += 1;
    return frames;
  };
  const self: Awaited<ReturnType<typeof puppets>> = {
    close: () => door.close(),
    async near(anchor, pool) {
      const primary = await world.shape.primaryOf(eventsOf(anchor));
      for (let at = 1; ; at += 1) {
        const one = await self.device(`${pool}-${at}`);
        const probe = await one.leases(pool);
        await one.frees(probe);
        if ((await world.shape.primaryOf(eventsOf(probe.anchor))) === primary) return one;
      }
    },
    async device(name) {
      const caller = await callerOf(name);
      const sendings = () => Array.from({ length: SENDINGS });
      const answered = async (
        op: 'lease' | 'extend' | 'free',
        about: Lease | undefined,
        send: () => Promise<{ readonly lease?: Lease }>,
      ) => {
        const asked = { op, device: `t/${name}`, ...(op === 'extend' ? { leaseMs: scene.leaseMs } : {}) };
        const facts = about === undefined ? undefined : factsOf(about);
        const answer = await persist(recorder, asked, facts, sendings, send);
        if (answer.outcome !== 'done') throw new Error(`${name}: ${op} ${answer.outcome} (${answer.code})`);
        return answer.lease as Lease;
      };
      return {
        leases(pool = 'whole') {
          const request = randomBytes(16).toString('hex');
          const kind = pool === 'whole' ? 'rsa-ip' : 'rsipsec';
          return answered('lease', undefined, () =>
            lease({ type: 'lease', id: id(), request, pool, kind }, caller, door),
          );
        },
        extends: (one) =>
          answered('extend', one, () => extend({ type: 'extend', id: id(), lease: one.id }, caller, door)),
        async frees(one) {
          await answered('free', one, async () => {
            await free({ type: 'free', id: id(), lease: one.id }, caller, door);
            return {};
          });
        },
      };
    },
  };
  return self;
}

const eventsOf = (anchor: string) => anchorKeys(anchor).find((key) => key.endsWith(':events')) as string;

/** Fences of an anchor's stream as one server has it. */
export async function fencesAt(server: RedisShape['servers'][number], anchor: string): Promise<string[]> {
  // A replica of a cluster would name its primary instead; others know no such command.
  await server.call('READONLY').catch(() => undefined);
  const stream = (await server.call('XRANGE', eventsOf(anchor), '-', '+')) as [string, unknown][];
  return stream.map(([fence]) => fence);
}

/** The primary of an anchor and its replicas, of which there must be so many, in step. */
export async function inStep(shape: RedisShape, anchor: string, count = 1) {
  const primary = await shape.primaryOf(eventsOf(anchor));
  let replicas: RedisShape['servers'][number][] = [];
  await soon(`${primary.name} has ${count} replicas in step`, async () => {
    const last = (await fencesAt(primary, anchor)).at(-1);
    const follow = await Promise.all(
      shape.servers.map(async (server) => {
        if (server === primary || !server.running) return false;
        const [role, of, , link] = (await server.call('ROLE')) as unknown[];
        if (role !== 'slave' || of !== primary.address || link !== 'connected') return false;
        return (await fencesAt(server, anchor)).at(-1) === last;
      }),
    );
    replicas = shape.servers.filter((_, at) => follow[at]);
    return replicas.length >= count;
  });
  return { primary, replicas };
}

const isCluster = ({ servers, sentinels }: RedisShape) => servers.length > 1 && sentinels.length === 0;

/** Gives the primary of an anchor the replica of another as well, where it has but one. */
export async function reinforce(shape: RedisShape, anchor: string): Promise<void> {
  if (!isCluster(shape)) return;
  const { primary, replicas } = await inStep(shape, anchor);
  const others = await Promise.all(
    shape.servers.map(async (server) => ((await server.call('ROLE')) as unknown[])[0] === 'slave'),
  );
  const other = shape.servers.find((server, at) => others[at] && !replicas.includes(server))!;
  await other.call('CLUSTER', 'REPLICATE', String(await primary.call('CLUSTER', 'MYID')));
}

/** Starts what was killed, and has all follow the primary, as the sentinels would some ten seconds later; a cluster does so by itself. */
export async function rejoin(shape: RedisShape, primary: RedisShape['servers'][number]): Promise<void> {
  await Promise.all(
    shape.servers.map(async (server) => {
      if (server === primary) return;
      if (!server.running) await server.restart();
      if (isCluster(shape)) return;
      await server.call('REPLICAOF', primary.address, primary.port);
    }),
  );
}

/** The primary that comes after `former`, which is gone. */
export async function promoted(world: World, anchor: string, former: RedisShape['servers'][number]) {
  let next = former;
  await soon(`another primary than ${former.name}`, async () => {
    next = await world.shape.primaryOf(eventsOf(anchor));
    return next !== former;
  });
  return next;
}

/** Polls until the registry is believed again about an anchor; returns what it holds then. */
export async function believed(world: World, anchor: string) {
  let leases: readonly Lease[] = [];
  await soon(`anchor ${anchor} is believed and owned again`, async () => {
    const snapshot = await world.registry.snapshot(anchor);
    leases = snapshot.leases;
    return snapshot.owner !== null && snapshot.owner.remainingMs > 0;
  });
  return leases;
}
