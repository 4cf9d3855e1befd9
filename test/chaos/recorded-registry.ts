import { setTimeout as wait } from 'node:timers/promises';
import { MooringError } from '../../src/protocol/errors.ts';
import type { Lease } from '../../src/protocol/lease.ts';
import type { Registry } from '../../src/registry/registry.ts';
import { monotonicMs } from '../../src/telemetry/clock.ts';
import { factsOf, type Recorder } from './history.ts';

/** Whether this process hears the registry; `answers`: what it asks is carried out there, and the answer lost. */
export type Hearing = 'both' | 'answers' | 'none';

const LOST_AFTER_MS = 1_000;

/** The registry as a process of the run sees it: what it answers is written down, and it can be made unheard. */
export function recordedRegistry(
  registry: Registry,
  who: string,
  recorder: Recorder,
  hearing: () => Hearing,
): Registry {
  const refusing = new Set<string>();

  function answered(method: string, args: readonly unknown[], answer: unknown): void {
    const atMs = monotonicMs();
    const written = (anchor: string, fence: string) =>
      recorder.write({ type: 'written', atMs, anchor, fence });
    const ofLease = (lease: Lease) => written(lease.anchor, lease.fence);
    switch (method) {
      case 'grant':
      case 'extend':
      case 'free':
        ofLease((answer as { lease: Lease }).lease);
        return;
      case 'activate':
        ofLease(answer as Lease);
        return;
      case 'claim':
        // Its event has a counter, its answer has none.
        written(args[0] as string, `${(answer as { epoch: bigint }).epoch}-0`);
        return;
      case 'sweep':
        for (const { lease } of (answer as Awaited<ReturnType<Registry['sweep']>>).ended) ofLease(lease);
        return;
      case 'events': {
        const page = answer as Awaited<ReturnType<Registry['events']>>;
        if (page.reload) return;
        for (const event of page.events) {
          if (event.type === 'owned') written(args[0] as string, event.fence);
          if (!('lease' in event)) continue;
          const { id: lease, anchor, device, resources } = factsOf(event.lease);
          const of = { kind: event.type, fence: event.fence, lease, anchor, device, resources };
          recorder.write({ type: 'event', atMs, relay: who, ...of });
        }
        return;
      }
      case 'snapshot': {
        const { lastId } = answer as Awaited<ReturnType<Registry['snapshot']>>;
        if (lastId !== '0-0') written(args[0] as string, lastId);
        return;
      }
      case 'renew': {
        const anchor = args[0] as string;
        if (refusing.delete(anchor)) recorder.write({ type: 'settled', atMs, relay: who, anchor });
        return;
      }
      default:
    }
  }

  function refused(method: string, args: readonly unknown[], error: unknown): void {
    const anchor = args[0] as string;
    const isQuarantined = error instanceof MooringError && error.code === 'ERR_MOORING_QUARANTINED';
    if (method !== 'renew' || !isQuarantined || refusing.has(anchor)) return;
    refusing.add(anchor);
    recorder.write({ type: 'quarantined', atMs: monotonicMs(), relay: who, anchor });
  }

  async function ask(
    method: string,
    run: (...args: unknown[]) => unknown,
    args: unknown[],
  ): Promise<unknown> {
    const heard = hearing();
    if (heard === 'answers') Promise.resolve(run(...args)).catch(() => undefined);
    if (heard !== 'both') {
      await wait(LOST_AFTER_MS);
      throw new MooringError('ERR_MOORING_REGISTRY_UNAVAILABLE', 'the registry is cut off', {
        temporary: true,
      });
    }
    try {
      const answer = await run(...args);
      answered(method, args, answer);
      return answer;
    } catch (error) {
      refused(method, args, error);
      throw error;
    }
  }

  return Object.fromEntries(
    Object.entries(registry).map(([method, run]) => [
      method,
      method === 'close' ? run : (...args: unknown[]) => ask(method, run as () => unknown, args),
    ]),
  ) as unknown as Registry;
}
