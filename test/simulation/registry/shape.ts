import { holdMs } from '../../../src/registry/hold.ts';
import type { AnchorDeclaration } from '../../../src/registry/registry.ts';
import type { Weather } from './network.ts';

/** Longer than any claim that a deposed primary renews in its last instant. */
export const QUARANTINE_MS = 1_700;
/** What relays run with here: the proportions are those of the product, the schedule is shorter. */
export const PAIRED_MS = 600;
export const ALONE_MS = 1_000;
/** For so long at least a standby does not claim after it has promised. */
export const PROMISED_MS = holdMs(PAIRED_MS);
/** An anchor that nobody owns is watched so long when the registry may have forgotten its owner. */
export const EMPTIED_CLAIM_MS = 800;
/** The longest that somebody may still hear a deposed primary. */
export const MOST_DECEIVED_MS = 600;
export const COOLING_MS = 2_000;
/** Addresses of an anchor: few, so that they are used again. */
export const CAPACITY = 3;

/** What a world is made of. */
export interface Shape {
  /** Decides everything that is not in the schedule. */
  readonly seed: number;
  readonly relays: number;
  readonly anchors: number;
  readonly devices: number;
  readonly sharing: 'whole' | 'shared';
  /** Anchors and devices on servers of their own; otherwise one server holds all. */
  readonly cluster: boolean;
  readonly weather: Weather;
  /** Milliseconds of each relay's clock in a millisecond of true time. */
  readonly rates: readonly number[];
}

/** The relay of an anchor that nobody has. */
export function homeOf({ relays }: Shape, at: number): string {
  return `r${at % relays}`;
}

export function declarationOf(shape: Shape, id: string, at: number): AnchorDeclaration {
  const shared = shape.sharing === 'shared';
  return {
    id,
    pool: 'p',
    sharing: shape.sharing,
    prefixes: shared
      ? [`192.0.2.${16 * at + 9}/32`]
      : [`192.0.2.${16 * at + 9}/32`, `192.0.2.${16 * at + 10}/31`],
    ...(shared ? { portBlock: 16_384 } : {}),
    endpoints: [`198.51.100.${at + 1}`],
    coolingMs: COOLING_MS,
    home: homeOf(shape, at),
  };
}
