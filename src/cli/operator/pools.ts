import { MooringError } from '../../protocol/errors.ts';
import { ANCHOR_COLUMNS, type AnchorAnswer } from './anchors.ts';
import { allPages, demanded, type Noun, option, part, type Work } from './command.ts';
import { type Column, duration, facts, table } from './table.ts';

interface Summary {
  readonly name: string;
  readonly sharing: string;
  readonly retiring: boolean;
  readonly anchors: number;
  readonly capacity: number;
  readonly held: number;
  readonly free: number;
}

interface PoolAnswer {
  readonly policy: { readonly name: string; readonly [setting: string]: unknown };
  readonly retiring: boolean;
  readonly anchors: readonly AnchorAnswer[];
  readonly revision: string;
}

const COLUMNS: readonly Column<Summary>[] = [
  { head: 'POOL', cell: ({ name }) => name },
  { head: 'SHARING', cell: ({ sharing, retiring }) => (retiring ? `${sharing}, retiring` : sharing) },
  { head: 'ANCHORS', cell: ({ anchors }) => anchors },
  { head: 'HELD', cell: ({ held }) => held },
  { head: 'FREE', cell: ({ free }) => free },
  { head: 'OF', cell: ({ capacity }) => capacity },
];

function rendered({ policy, retiring, anchors, revision }: PoolAnswer): string {
  const said = Object.entries(policy).map(([name, value]) => {
    const isTime = name.endsWith('Ms') && typeof value === 'number';
    const text = isTime ? duration(value) : typeof value === 'object' ? JSON.stringify(value) : String(value);
    return [name, text] as const;
  });
  const top = facts({ ...Object.fromEntries(said), retiring: retiring ? 'yes' : 'no', revision });
  return `${top}\n\n${table(ANCHOR_COLUMNS, anchors)}`;
}

const readPool = ({ client, words }: Work) => client.ask<PoolAnswer>('GET', `/v1/pools/${part(words[0])}`);

type AnchorSettings = Pick<AnchorAnswer, 'id' | 'home' | 'endpoints' | 'prefixes'>;

/** The anchors of the pool that lease, in the form of the settings. */
function anchorsOf({ anchors }: PoolAnswer): readonly AnchorSettings[] {
  return anchors
    .filter(({ retiring }) => !retiring)
    .map(({ id, home, endpoints, prefixes }) => ({ id, home, endpoints, prefixes }));
}

async function put(work: Work, name: string, body: object, revision: string): Promise<void> {
  const answer = await work.client.ask<PoolAnswer>('PUT', `/v1/pools/${part(name)}`, { body, revision });
  work.print(answer, rendered);
}

/** A pool in a file: YAML or JSON, in the form of `pools` of the configuration. */
async function fileOf(work: Work): Promise<{ readonly name: string }> {
  const file = demanded(work, 'file');
  const [{ readYaml }, { parsePool }] = await Promise.all([
    import('../../config/settings-file.ts'),
    import('../../config/pools.ts'),
  ]);
  return parsePool(readYaml(file), file);
}

/** What the pool becomes when some of its anchors change: those that are not said stay as they are. */
async function change(
  work: Work,
  { policy, revision }: PoolAnswer,
  anchors: readonly AnchorSettings[],
): Promise<void> {
  await put(work, policy.name, { ...policy, anchors }, revision);
}

async function grow(work: Work): Promise<void> {
  const pool = await readPool(work);
  const id = demanded(work, 'anchor');
  const prefixes = work.options.prefix ?? [];
  const endpoints = work.options.endpoint ?? [];
  const present = anchorsOf(pool).find((one) => one.id === id);
  if (present === undefined) {
    await change(work, pool, [{ id, home: demanded(work, 'home'), endpoints, prefixes }]);
    return;
  }
  const home = option(work, 'home') ?? present.home;
  const more = prefixes.filter((prefix) => !present.prefixes.includes(prefix));
  await change(work, pool, [{ ...present, home, prefixes: [...present.prefixes, ...more] }]);
}

async function shrink(work: Work): Promise<void> {
  const pool = await readPool(work);
  const present = anchorsOf(pool);
  const out = work.options.prefix ?? [];
  if (out.length === 0) demanded(work, 'prefix');
  const there = present.flatMap(({ prefixes }) => prefixes);
  const unknown = out.find((prefix) => !there.includes(prefix));
  if (unknown !== undefined) {
    throw new MooringError(
      'ERR_MOORING_USAGE',
      `--prefix ${unknown}: the pool has ${there.join(', ')}; name one of them as it stands there`,
    );
  }
  const anchors = present
    .filter(({ prefixes }) => prefixes.some((prefix) => out.includes(prefix)))
    .map((one) => ({ ...one, prefixes: one.prefixes.filter((prefix) => !out.includes(prefix)) }));
  const empty = anchors.find(({ prefixes }) => prefixes.length === 0);
  if (empty !== undefined) {
    throw new MooringError(
      'ERR_MOORING_USAGE',
      `anchor ${empty.id} would have no prefix; retire it: mooring anchor retire ${empty.id}`,
    );
  }
  await change(work, pool, anchors);
}

export const poolNoun: Noun = {
  name: 'pool',
  verbs: {
    list: {
      form: 'list',
      meaning: 'pools, and how full they are',
      words: [0, 0],
      looks: true,
      async run(work) {
        const pools = await allPages<Summary>(work, '/v1/pools', 'pools');
        work.print({ pools }, () => table(COLUMNS, pools));
      },
    },
    show: {
      form: 'show POOL',
      meaning: 'one pool: its policy and its anchors',
      words: [1, 1],
      looks: true,
      run: async (work) => work.print(await readPool(work), rendered),
    },
    add: {
      form: 'add --file FILE',
      meaning: 'a new pool, as FILE (YAML or JSON, one of `pools` of the configuration) says',
      options: ['file'],
      words: [0, 0],
      async run(work) {
        const pool = await fileOf(work);
        await put(work, pool.name, pool, 'none');
      },
    },
    set: {
      form: 'set POOL --file FILE',
      meaning: 'the pool becomes as FILE says; anchors that it does not name stay',
      options: ['file'],
      words: [1, 1],
      async run(work) {
        const [pool, present] = await Promise.all([fileOf(work), readPool(work)]);
        await put(work, work.words[0] ?? '', pool, present.revision);
      },
    },
    grow: {
      form: 'grow POOL --anchor ANCHOR --prefix PREFIX… [--endpoint ADDRESS… --home RELAY]',
      meaning: 'more prefixes on an anchor; with endpoint and home, a new anchor',
      options: ['anchor', 'prefix', 'endpoint', 'home'],
      words: [1, 1],
      run: grow,
    },
    shrink: {
      form: 'shrink POOL --prefix PREFIX…',
      meaning: 'take prefixes out: nothing of them is granted any more, and they go with their last lease',
      options: ['prefix'],
      words: [1, 1],
      run: shrink,
    },
    retire: {
      form: 'retire POOL',
      meaning: 'no more leases from it; it goes with its last one',
      words: [1, 1],
      async run(work) {
        const { revision } = await readPool(work);
        const path = `/v1/pools/${part(work.words[0])}`;
        work.print(await work.client.ask<PoolAnswer>('DELETE', path, { revision }), rendered);
      },
    },
  },
};
