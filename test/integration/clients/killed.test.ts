import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { beforeAll, describe, expect, test } from 'vitest';
import { bundlePrograms } from '../../bundled-programs.ts';
import type { FormName } from './killed-life.ts';

interface Outcome {
  readonly before: string;
  readonly afterWhole: string;
  readonly held: string;
  readonly results: readonly {
    readonly stage: string;
    readonly did: string;
    readonly signal: string | null;
    /** Whether what a program said to the internet arrived there. */
    readonly passed: Record<'whenDead' | 'atStart' | 'leasedAgain', boolean | null>;
    readonly leasedAgain: string;
    readonly afterEnd: string;
    readonly reachedInTheEnd: boolean;
    readonly restored: string;
  }[];
}

const STAGES = {
  shut: ['start', 'lease', 'move', 'stop'],
  open: ['lease', 'lease ended', 'stop'],
  behind: ['lease', 'next lease', 'stop'],
} satisfies Record<FormName, string[]>;
const FORMS = Object.keys(STAGES) as FormName[];

const isRoot = process.geteuid?.() === 0;

describe.skipIf(!isRoot)(
  'an agent that is killed behind any of its steps (needs root: network namespaces)',
  () => {
    const outcomes = {} as Record<FormName, Outcome>;

    beforeAll(async () => {
      const program = await bundlePrograms('killed', [
        'integration/clients/killed-steps.ts',
        'integration/clients/killed-agent.ts',
      ]);
      const run = async (form: FormName) => {
        const command = [
          '--net',
          '--mount',
          process.execPath,
          program('killed-steps'),
          form,
          program('killed-agent'),
        ];
        const { stdout } = await promisify(execFile)('unshare', command, {
          timeout: 110_000,
          maxBuffer: 256 << 20,
        });
        outcomes[form] = JSON.parse(stdout) as Outcome;
      };
      // Two of them at a time.
      await Promise.all([run('shut'), run('open').then(() => run('behind'))]);
    }, 120_000);

    const each = (
      form: FormName,
      check: (result: Outcome['results'][number], where: string) => void,
    ): void => {
      for (const result of outcomes[form].results) check(result, `${form}, ${result.stage}: ${result.did}`);
    };

    test.each(FORMS)('was killed in every stage of its life (%s)', (form) => {
      each(form, ({ signal }, where) => expect(signal, where).toBe('SIGKILL'));
      expect(new Set(outcomes[form].results.map(({ stage }) => stage))).toEqual(new Set(STAGES[form]));
    });

    test.each(FORMS)(
      'leaves nothing that `mooring restore` does not take back, itself cut short once (%s)',
      (form) => {
        each(form, ({ restored }, where) => expect(restored, where).toBe(outcomes[form].before));
      },
    );

    test.each(FORMS)(
      'leaves nothing that the next start does not go on with and take back in the end (%s)',
      (form) => {
        const { before, held, afterWhole } = outcomes[form];
        expect(held).not.toBe(before);
        expect(afterWhole).toBe(before);
        each(form, ({ leasedAgain, afterEnd, reachedInTheEnd }, where) => {
          expect(leasedAgain, where).toBe(held);
          expect(afterEnd, where).toBe(before);
          expect(reachedInTheEnd, where).toBe(true);
        });
      },
    );

    test('never cuts the machine off when it leads none of its own traffic', () => {
      each('behind', ({ passed }, where) =>
        expect(passed, where).toEqual({ whenDead: true, atStart: true, leasedAgain: true }),
      );
    });

    test('gives the machine its own way back at the next start, before there is a lease; without it there would be none', () => {
      each('open', ({ passed }, where) => expect(passed.atStart, where).toBe(true));
      expect(outcomes.open.results.some(({ passed }) => passed.whenDead === false)).toBe(true);
    });

    test('lets nothing out once its kill switch is closed, dead or started again; it did before', () => {
      const [first, ...others] = outcomes.shut.results;
      expect(first).toMatchObject({ stage: 'start', passed: { whenDead: true, atStart: false } });
      const shut = { whenDead: false, atStart: false, leasedAgain: false };
      for (const { stage, did, passed } of others) expect(passed, `${stage}: ${did}`).toEqual(shut);
    });
  },
);
