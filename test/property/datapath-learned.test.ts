import fc from 'fast-check';
import { expect, it } from 'vitest';
import { Learned } from '../../src/datapath/decision/learned.ts';
import type { LeaseEntry } from '../../src/datapath/decision/tables.ts';
import { LeaseTables } from '../../src/datapath/decision/tables.ts';
import { lease } from '../unit/datapath/packets.ts';

const QUOTA = 3;
const KEEP_MS = 100;

type Step =
  | {
      readonly do: 'teach' | 'recall';
      readonly key: number;
      readonly kind: number;
      readonly octets: number;
      readonly by: number;
    }
  | { readonly do: 'pass'; readonly ms: number }
  | { readonly do: 'forget'; readonly by: number };

const about = {
  key: fc.integer({ min: 0, max: 2 }),
  kind: fc.integer({ min: 0, max: 1 }),
  octets: fc.integer({ min: 0, max: 1 }),
  by: fc.integer({ min: 0, max: 2 }),
};
const steps: fc.Arbitrary<Step[]> = fc.array(
  fc.oneof(
    { weight: 6, arbitrary: fc.record({ do: fc.constant('teach' as const), ...about }) },
    { weight: 4, arbitrary: fc.record({ do: fc.constant('recall' as const), ...about }) },
    {
      weight: 2,
      arbitrary: fc.record({ do: fc.constant('pass' as const), ms: fc.integer({ min: 0, max: 70 }) }),
    },
    { weight: 1, arbitrary: fc.record({ do: fc.constant('forget' as const), by: about.by }) },
  ),
  { maxLength: 80 },
);

interface Entry {
  readonly name: string;
  readonly by: number;
  untilMs: number;
  taught: number;
}

/** The rules over a plain list. */
class Model {
  entries: Entry[] = [];
  #lessons = 0;
  readonly #gives: 'oldest' | 'newest';

  constructor(gives: 'oldest' | 'newest') {
    this.#gives = gives;
  }

  teach(name: string, by: number, nowMs: number): string {
    this.#lessons += 1;
    const known = this.entries.find((entry) => entry.name === name);
    if (known?.by === by) {
      known.untilMs = nowMs + KEEP_MS;
      known.taught = this.#lessons;
      return 'known';
    }
    if (known !== undefined && nowMs < known.untilMs) return 'taken';
    this.entries = this.entries.filter((entry) => entry !== known);
    const own = () => this.entries.filter((entry) => entry.by === by);
    if (own().length >= QUOTA) {
      this.entries = this.entries.filter((entry) => entry.by !== by || nowMs < entry.untilMs);
      if (own().length >= QUOTA) {
        if (this.#gives === 'newest') return 'full';
        const oldest = own().reduce((a, b) => (a.taught < b.taught ? a : b));
        this.entries = this.entries.filter((entry) => entry !== oldest);
      }
    }
    this.entries.push({ name, by, untilMs: nowMs + KEEP_MS, taught: this.#lessons });
    return 'learned';
  }

  recall(name: string, nowMs: number): number | null {
    const known = this.entries.find((entry) => entry.name === name);
    return known !== undefined && nowMs < known.untilMs ? known.by : null;
  }
}

it.each(['oldest', 'newest'] as const)(
  'R38, R42, R50: what is learned is found for whom it was learned, for as long, within the quota (%s gives way)',
  (gives) => {
    const tables = new LeaseTables<number>();
    const leases: LeaseEntry<number>[] = [0, 1, 2].map((by) =>
      tables.put(
        lease({ kind: 'rsipsec', address: '203.0.113.7', ports: { first: 1024 + by * 64, count: 64 } }),
        by,
        Number.POSITIVE_INFINITY,
        0,
      ),
    );
    fc.assert(
      fc.property(steps, (all) => {
        const learned = new Learned<number>({ perLease: QUOTA, keepMs: KEEP_MS, gives });
        const model = new Model(gives);
        let nowMs = 0;
        for (const step of all) {
          if (step.do === 'pass') nowMs += step.ms;
          else if (step.do === 'forget') {
            learned.forget(leases[step.by]!);
            model.entries = model.entries.filter((entry) => entry.by !== step.by);
          } else {
            const { key, kind, octets, by } = step;
            const name = `${key} ${kind} ${octets}`;
            const buffer = Uint8Array.of(9, octets, 7, 7, 7, 9);
            if (step.do === 'teach') {
              const lesson = learned.teach(key, kind, buffer, 1, 4, leases[by]!, nowMs);
              expect(lesson).toBe(model.teach(name, by, nowMs));
            } else {
              const found = learned.recall(key, kind, buffer, 1, 4, nowMs);
              expect(found?.session ?? null).toBe(model.recall(name, nowMs));
            }
          }
        }
      }),
      { numRuns: 1500 },
    );
  },
);
