import { describe, expect, it } from 'vitest';
import { MooringError } from '../../../src/protocol/errors.ts';
import type { RelayPlane } from '../../../src/protocol/relay-plane.ts';
import { createOwners } from '../../../src/signalling/owners.ts';

const PLANES = new Map(['relay-1', 'relay-2'].map((name) => [name, { name } as unknown as RelayPlane]));
const planeFor = async (relay: string) =>
  PLANES.get(relay) ?? Promise.reject(new Error(`no route to ${relay}`));
const owner = (relay: string, epoch: bigint, remainingMs = 1_000) => ({
  relay,
  boot: '',
  epoch,
  remainingMs,
});
const away = () =>
  Promise.reject(new MooringError('ERR_MOORING_REGISTRY_UNAVAILABLE', 'away', { temporary: true }));
const temporary = new MooringError('ERR_MOORING_NOT_OWNER', 'not here', { temporary: true });

describe('asking the owner of an anchor', () => {
  it('asks the relay that the registry names, under its epoch', async () => {
    const owners = createOwners({ owner: async () => owner('relay-2', 7n) }, planeFor);
    const asked = await owners.ask('a', 1_000, async ({ relay, epoch, plane }) => [relay, epoch, plane]);
    expect(asked).toEqual(['relay-2', 7n, PLANES.get('relay-2')]);
  });

  it('follows the anchor to its next owner while the first one refuses', async () => {
    const named = [owner('relay-1', 1n), null, owner('relay-1', 1n, 0), owner('relay-2', 2n)];
    let look = 0;
    const owners = createOwners({ owner: async () => named[Math.min(look++, 3)] ?? null }, planeFor);
    const answer = await owners.ask('a', 5_000, async ({ relay }) => {
      if (relay === 'relay-1') throw temporary;
      return relay;
    });
    expect(answer).toBe('relay-2');
    expect(look).toBe(4);
  });

  it('asks the owner named last while the registry is away, but never one that had none', async () => {
    let reachable = true;
    const owners = createOwners(
      { owner: async (anchor) => (reachable && anchor === 'a' ? owner('relay-1', 1n) : away()) },
      planeFor,
    );
    await owners.ask('a', 1_000, async () => 'asked');
    reachable = false;
    expect(await owners.ask('a', 1_000, async ({ relay }) => relay)).toBe('relay-1');
    await expect(owners.ask('b', 150, async ({ relay }) => relay)).rejects.toMatchObject({ temporary: true });
  });

  it('asks the registry again when the claim that it named runs out, or at once when whoever has it refuses', async () => {
    let nowMs = 0;
    let refuses = false;
    const named = [owner('relay-1', 1n, 450), owner('relay-1', 1n, 450), owner('relay-2', 2n, 450)];
    let look = 0;
    const owners = createOwners({ owner: async () => named[look++] ?? null }, planeFor, {
      nowMs: () => nowMs,
      after: () => () => undefined,
    });
    const ask = () =>
      owners.ask('a', 1_000, async ({ relay }) => {
        if (relay === 'relay-1' && refuses) throw temporary;
        return [relay, look];
      });
    expect(await ask()).toEqual(['relay-1', 1]);
    nowMs = 449;
    expect(await ask()).toEqual(['relay-1', 1]);
    nowMs = 450;
    expect(await ask()).toEqual(['relay-1', 2]);
    refuses = true;
    expect(await ask()).toEqual(['relay-2', 3]);
  });

  it('gives at once what the owner refuses for good', async () => {
    const owners = createOwners({ owner: async () => owner('relay-1', 1n) }, planeFor);
    const refusal = new MooringError('ERR_MOORING_SEALING_REFUSED', 'no');
    let asked = 0;
    const asking = owners.ask('a', 60_000, () => {
      asked += 1;
      return Promise.reject(refusal);
    });
    await expect(asking).rejects.toBe(refusal);
    expect(asked).toBe(1);
  });

  it.each<[string, () => Promise<never>]>([
    ['refuses for now', () => Promise.reject(temporary)],
    ['cannot be reached', () => Promise.reject(new Error('ECONNREFUSED'))],
    ['never answers', () => new Promise<never>(() => {})],
  ])('is a temporary error in bounded time when it %s', async (_what, call) => {
    const owners = createOwners({ owner: async () => owner('relay-1', 1n) }, planeFor);
    await expect(owners.ask('a', 150, call)).rejects.toMatchObject({
      code: 'ERR_MOORING_OWNER_UNREACHABLE',
      temporary: true,
      data: { anchor: 'a' },
    });
  });
});
