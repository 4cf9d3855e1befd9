/** What the registry benchmark promises, and what came of it. Pure. */
import { judged, unmeasured, worstRatio } from '../goals.ts';
import type { Goal, Results } from '../record.ts';
import { METRICS, sizeName } from './sizes.ts';

export const SYSTEM = {
  /** End to end: at the door of the program. */
  program: 'mooring',
  store: 'mooring-store',
  onePrimary: 'mooring-store-1-primary',
  threePrimaries: 'mooring-store-3-primaries',
  kea: 'kea-dhcp4',
  floor: 'raw-lua',
} as const;

export const RATE = 'operations/s';
export const P50 = 'p50 ms at half load';
export const P99 = 'p99 ms at half load';
export const PROGRAM_US = 'program µs';
export const REDIS_US = 'Redis µs';

export const SIZES = [10_000, 100_000, 1_000_000] as const;

export function goals(results: Pick<Results, 'median'>): Goal[] {
  const rate = (system: string, of = 'grant') => results.median(system, of, RATE);
  return [
    aboveKea('registry.grants_vs_kea', 1, rate(SYSTEM.program)),
    aboveKea('registry.store_grants_vs_kea', 1.5, rate(SYSTEM.store)),
    latency(),
    scale(),
    octets(),
    worstRatio(
      { id: 'registry.cluster_scaling', op: '>=', goal: 0.9 },
      ['cluster-grant', 'cluster-extend'].map((name) => ({
        name,
        ours: rate(SYSTEM.threePrimaries, name),
        theirs: rate(SYSTEM.onePrimary, name),
      })),
    ),
  ];

  function aboveKea(id: string, goal: number, ours: number | undefined): Goal {
    const theirs = rate(SYSTEM.kea);
    if (ours === undefined || theirs === undefined)
      return unmeasured({ id, op: '>=', goal }, 'not measured on both sides');
    return judged({ id, op: '>=', goal }, ours / theirs);
  }

  function latency(): Goal {
    const promised = { id: 'registry.grant_p99_ms', op: '<=', goal: 5 } as const;
    const p99 = results.median(SYSTEM.program, 'grant', P99);
    if (p99 === undefined) return unmeasured(promised, 'grants were not measured end to end');
    return judged(promised, p99, 'end to end');
  }

  function scale(): Goal {
    const promised = { id: 'registry.scale_1m', op: '<=', goal: 1.3 } as const;
    const [small, , large] = SIZES.map(sizeName);
    const growth = [METRICS.grant, METRICS.extend].map((metric) => {
      const [few, many] = [small, large].map((name) => results.median(SYSTEM.store, name!, metric));
      return few === undefined || many === undefined ? undefined : { metric, factor: many / few };
    });
    const known = growth.flatMap((one) => one ?? []);
    if (known.length < growth.length) return unmeasured(promised, 'only a full run fills a million leases');
    const worst = known.reduce((a, b) => (b.factor > a.factor ? b : a));
    return judged(promised, worst.factor, `the most of ${known.length}: ${worst.metric}`);
  }

  function octets(): Goal {
    const promised = { id: 'registry.bytes_per_lease', op: '<=', goal: 900 } as const;
    const sizes = [SYSTEM.store, SYSTEM.onePrimary, SYSTEM.threePrimaries].flatMap((system) =>
      SIZES.flatMap((size) => results.median(system, sizeName(size), METRICS.octets) ?? []),
    );
    if (sizes.length === 0) return unmeasured(promised, 'memory was not measured');
    return judged(promised, Math.max(...sizes), `the most of ${sizes.length} sizes`);
  }
}

/** What more primaries would carry, from what one grant takes of Redis and of the process that asks for it. */
export function forecast(results: Pick<Results, 'median'>): string[] {
  const of = (metric: string) => results.median(SYSTEM.threePrimaries, 'cluster-grant', metric);
  const [redisUs, programUs] = [of(REDIS_US), of(PROGRAM_US)];
  if (redisUs === undefined || programUs === undefined) return [];
  const perPrimary = 1e6 / redisUs;
  const rows = [3, 10, 30].map((primaries) => {
    const grants = primaries * perPrimary;
    const askers = Math.ceil((grants * programUs) / 1e6);
    return `${primaries} primaries ${Math.round(grants).toLocaleString('en-US')} grants/s, asked by ${askers} processes`;
  });
  return [
    `calculated, not measured, for a core to each primary and to each process that asks: a grant takes ${Math.round(redisUs)} µs of Redis, in two slots, and ${Math.round(programUs)} µs of the process, so ${rows.join('; ')}`,
  ];
}
