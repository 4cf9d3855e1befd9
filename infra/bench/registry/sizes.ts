import type { Granted } from '../../../src/registry/registry.ts';
import type { Results } from '../record.ts';
import { closedLoop } from './load.ts';
import { spending } from './spending.ts';
import { fill } from './store.ts';
import { type Subject, WIDTH } from './subject.ts';

/** Every so many leases one is kept, to be extended: they lie all over. */
const KEPT = 50;
/** Operations a repetition. */
const GRANTS = 1_000;
const EXTENSIONS = 2_000;
const PROGRESS = 50_000;

export const METRICS = {
  octets: 'octets a lease',
  grant: 'grant µs',
  grantRedis: 'of that Redis µs',
  extend: 'extension µs',
  extendRedis: 'of this Redis µs',
} as const;

export function sizeName(leases: number): string {
  return `${leases.toLocaleString('en-US')} leases`;
}

/** Fills a registry by the real scripts, and at each size measures its memory and what one more operation takes. */
export async function measureSizes(
  subject: Subject,
  sizes: readonly number[],
  repetitions: number,
  results: Results,
  say: (text: string) => void,
): Promise<void> {
  const { store, servers, system } = subject;
  await subject.empty();
  const emptyOctets = await subject.memory();
  const kept: Granted[] = [];
  let held = 0;
  for (const size of sizes) {
    // As many anchors as these leases need: one that is declared and holds nothing takes 8 kB.
    await store.makeRoom(size - held + repetitions * GRANTS);
    while (held < size) {
      const more = Math.min(PROGRESS, size - held);
      kept.push(...(await fill(store, held, more, (n) => n % KEPT === 0)));
      held += more;
      if (held % PROGRESS === 0) say(`${system}: ${sizeName(held)}`);
    }
    const name = sizeName(size);
    results.add(system, name, { [METRICS.octets]: ((await subject.memory()) - emptyOctets) / held });
    for (let repetition = 0; repetition < repetitions; repetition += 1) {
      const fresh: Granted[] = [];
      const granted = await spending(process.pid, servers, () =>
        closedLoop(WIDTH, { count: GRANTS }, async (n) => void fresh.push(await store.grant(held + n))),
      );
      held += GRANTS;
      await closedLoop(WIDTH, { count: GRANTS }, (n) => store.activate(fresh[n]!));
      const extended = await spending(process.pid, servers, () =>
        closedLoop(WIDTH, { count: EXTENSIONS }, (n) => store.extend(kept[(n * 7919) % kept.length]!)),
      );
      results.add(system, name, {
        [METRICS.grant]: 1e6 / granted.perSecond,
        [METRICS.grantRedis]: granted.redisUs,
        [METRICS.extend]: 1e6 / extended.perSecond,
        [METRICS.extendRedis]: extended.redisUs,
      });
    }
    const octets = results.median(system, name, METRICS.octets)!;
    const grant = results.median(system, name, METRICS.grant)!;
    say(`${system}: ${name}, ${Math.round(octets)} octets each, ${Math.round(1e6 / grant)} grants/s`);
  }
}
