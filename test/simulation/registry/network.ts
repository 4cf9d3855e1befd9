import type { Chance } from './chance.ts';
import type { Process, Scheduler } from './scheduler.ts';

/** How often, in a thousand, a message meets with something. */
export interface Weather {
  readonly lost: number;
  readonly late: number;
  readonly twice: number;
}

/** `refused`: whoever calls hears at once that nobody is there; `silent`: nothing. */
export const CALM: Weather = { lost: 0, late: 0, twice: 0 };

export type CutKind = 'refused' | 'silent';

const LEAST_DELAY_MS = 0.2;
const USUAL_DELAY_MS = 3;
const LATE_DELAY_MS = 700;

export function linkOf(one: string, other: string): string {
  return one < other ? `${one} ${other}` : `${other} ${one}`;
}

/** Carries messages between names: late, out of order, twice, or not at all. */
export class Network {
  readonly cuts = new Map<string, CutKind>();
  private readonly scheduler: Scheduler;
  private readonly chance: Chance;
  /** May change: what is on its way by then is not concerned. */
  weather: Weather;
  private readonly listeners = new Map<string, Set<(cut: CutKind | undefined) => void>>();

  constructor(scheduler: Scheduler, chance: Chance, weather: Weather) {
    this.scheduler = scheduler;
    this.chance = chance;
    this.weather = weather;
  }

  cut(link: string, kind: CutKind): void {
    this.cuts.set(link, kind);
    for (const heard of this.listeners.get(link) ?? []) heard(kind);
  }

  mend(link: string): void {
    if (!this.cuts.delete(link)) return;
    for (const heard of this.listeners.get(link) ?? []) heard(undefined);
  }

  onChange(link: string, heard: (cut: CutKind | undefined) => void): void {
    const all = this.listeners.get(link) ?? new Set();
    all.add(heard);
    this.listeners.set(link, all);
  }

  isRefused(from: string, to: string): boolean {
    return this.cuts.get(linkOf(from, to)) === 'refused';
  }

  send(from: string, to: string, arrive: () => void | Promise<void>, mayDouble = false): void {
    const copies = mayDouble && this.chance.permille(this.weather.twice) ? 2 : 1;
    for (let copy = 0; copy < copies; copy += 1) {
      const late = this.chance.permille(this.weather.late);
      const isLost = this.chance.permille(this.weather.lost);
      const delayMs = LEAST_DELAY_MS + this.chance.next() * (late ? LATE_DELAY_MS : USUAL_DELAY_MS);
      if (isLost || this.cuts.has(linkOf(from, to))) continue;
      this.scheduler.after(delayMs, arrive);
    }
  }

  /** Asks a process of another host; rejects with `failure` when no answer comes in time. */
  call<T>(
    from: Process,
    to: () => Process | undefined,
    toId: string,
    serve: () => Promise<T>,
    { timeoutMs, failure }: { timeoutMs: number; failure: (why: string) => Error },
  ): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      if (this.isRefused(from.host.id, toId)) {
        reject(failure('refused'));
        return;
      }
      const cancel = from.after(timeoutMs, () => reject(failure(`no answer within ${timeoutMs} ms`)));
      const answer = (deliver: () => void) => {
        const arrived = from.guarded(() => {
          cancel();
          deliver();
        });
        this.send(toId, from.host.id, arrived);
      };
      const arrive = () => {
        const there = to();
        if (there === undefined) {
          answer(() => reject(failure('nobody listens')));
          return;
        }
        there.guarded(() => {
          serve().then(
            (value) => answer(() => resolve(value)),
            (error: Error) => answer(() => reject(error)),
          );
        })();
      };
      this.send(from.host.id, toId, arrive, true);
    });
  }
}
