import type { Anchor, Owner } from './registry.ts';

/** What describe.lua returns, and snapshot.lua begins with. */
export type Described = readonly [
  nowMs: number,
  epoch: string,
  owner: string,
  boot: string,
  untilMs: string,
  declaration: string,
  capacity: string,
  standby: string,
  standbyBoot: string,
];

type Answer = readonly [...Described, ...unknown[]];

export function anchorFrom([, , , , , declaration, capacity]: Answer): Anchor {
  return { ...(JSON.parse(declaration) as Omit<Anchor, 'capacity'>), capacity: Number(capacity) };
}

export function ownerFrom([
  nowMs,
  epoch,
  relay,
  boot,
  untilMs,
  ,
  ,
  standby,
  standbyBoot,
]: Answer): Owner | null {
  if (relay === '') return null;
  return {
    relay,
    boot,
    epoch: BigInt(epoch),
    remainingMs: Number(untilMs) - nowMs,
    ...(standby === '' ? {} : { standby: { id: standby, boot: standbyBoot } }),
  };
}
