import type { RedisSettings, RelaySettings } from '../config/schema.ts';

/** What the supervisor and the process that it starts tell each other. */

/** The environment variable that the supervisor's word to its process comes in: a JSON `Briefing`. */
export const BRIEFING = 'MOORING_SUPERVISION';

/** The process says so often that it is well, milliseconds. */
export const BEAT_MS = 250;

/** What the process is told at its start. */
export interface Briefing {
  /** Process id of the supervisor. */
  readonly supervisor: number;
  /** How often the process was started again since the supervisor's own start. */
  readonly restarts: number;
  /** How its predecessor ended; null for the first. */
  readonly lastEnd: string | null;
  /** Descriptor to give descriptors back on. */
  readonly channel: number;
  /** Descriptors that the supervisor keeps, as the process inherits them. */
  readonly kept: Readonly<Record<string, number>>;
  /** What a predecessor made of the configuration file, and of which text. */
  readonly settings: CheckedSettings | null;
}

export interface CheckedSettings {
  /** SHA-256 of the file's text, hexadecimal. */
  readonly digest: string;
  /** `Settings` as JSON: checked once, good until the file changes. */
  readonly json: string;
}

/** What must go on while a relay process is away. */
export interface Duty {
  readonly relay: Pick<RelaySettings, 'id' | 'interface' | 'tun' | 'announce' | 'ownershipMs'>;
  /** The registry, as the process itself reaches it. */
  readonly registry: { readonly url: string; readonly redis: RedisSettings | undefined };
  readonly logLevel: string;
  /** Where the data path's maps are pinned when it goes on without the process; null when it does not. */
  readonly pins: string | null;
}

/** A claim, and what the relay does with it. */
export interface HeldClaim {
  readonly anchor: string;
  /** Decimal: it must survive JSON. */
  readonly epoch: string;
  readonly untilMs: number;
  /** How long it lasts without renewal, milliseconds. */
  readonly ttlMs: number;
  readonly successor: string | null;
  readonly endpoints: readonly string[];
  readonly prefixes: readonly string[];
}

export type FromServer =
  /** Everything is well, also in the packet thread. */
  | { readonly type: 'beat' }
  | { readonly type: 'up' }
  /** Descriptors lie in the channel: keep them for the next process. */
  | { readonly type: 'given' }
  | { readonly type: 'settings'; readonly settings: CheckedSettings }
  | { readonly type: 'duty'; readonly duty: Duty }
  /** Any moment the process may be given a claim too short for the supervisor to load then what renews it. */
  | { readonly type: 'stands-by' }
  | { readonly type: 'held'; readonly claim: HeldClaim }
  | { readonly type: 'released'; readonly anchor: string };
