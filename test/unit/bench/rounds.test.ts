import { describe, expect, it } from 'vitest';
import { chosenCases } from '../../../infra/bench/benchmark.ts';
import { Results } from '../../../infra/bench/record.ts';
import { alternate } from '../../../infra/bench/rounds.ts';
import { markdownTable, rows, tables } from '../../../infra/bench/table.ts';

const silent = () => {};

describe('repetitions', () => {
  it('let systems take turns within a case, and turn the order around every round', async () => {
    const order: string[] = [];
    const measurement = (system: string, name: string) => ({
      system,
      case: name,
      run: async () => {
        order.push(`${system}${name}`);
        return {};
      },
    });
    // Given system by system, played case by case.
    const given = [
      measurement('A', '1'),
      measurement('A', '2'),
      measurement('B', '1'),
      measurement('B', '2'),
    ];
    await alternate(given, { warmUps: 0, counted: 2 }, silent, silent);
    expect(order).toEqual(['A1', 'B1', 'A2', 'B2', 'B2', 'A2', 'B1', 'A1']);
  });

  it('throw the warm-up away and keep every other run, in its order', async () => {
    let next = 0;
    const results = new Results();
    await alternate(
      [{ system: 'A', case: 'c', run: async () => ({ figure: next++ }) }],
      { warmUps: 2, counted: 5 },
      (measurement, figures) => results.add(measurement.system, measurement.case, figures),
      silent,
    );
    expect(results.all()).toEqual([
      { system: 'A', case: 'c', metric: 'figure', runs: [2, 3, 4, 5, 6], median: 4, spread: [2, 6] },
    ]);
    expect(results.median('A', 'c', 'figure')).toBe(4);
    expect(results.median('B', 'c', 'figure')).toBeUndefined();
  });
});

describe('the table', () => {
  it('has one row a case and system, with a dash for what a system has no figure of', () => {
    const results = new Results();
    for (const value of [1, 3, 2]) results.add('A', 'c', { speed: value * 1_000, lost: 0 });
    results.add('B', 'c', { speed: 5 });
    expect(markdownTable(rows(results.all())).split('\n')).toEqual([
      '| case | system | speed | lost |',
      '| --- | --- | --: | --: |',
      '| c | A | 2,000 (1,000–3,000) | 0 |',
      '| c | B | 5 | – |',
    ]);
  });
});

describe('several tables', () => {
  it('keep cases together that were measured alike, whatever stands between them', () => {
    const results = new Results();
    results.add('A', 'fast', { speed: 1 });
    results.add('A', 'small', { octets: 7 });
    results.add('B', 'quick', { speed: 2 });
    expect(tables(results.all())).toEqual([
      [
        ['case', 'system', 'speed'],
        ['fast', 'A', '1'],
        ['quick', 'B', '2'],
      ],
      [
        ['case', 'system', 'octets'],
        ['small', 'A', '7'],
      ],
    ]);
  });
});

describe('--only', () => {
  const benchmark = { name: 'b', cases: ['esp-100B-up', 'esp-100B-down', 'udp-100B-up'] };

  it('leaves the cases whose name contains it', () => {
    expect(chosenCases(benchmark, 'esp')).toEqual(['esp-100B-up', 'esp-100B-down']);
    expect(chosenCases(benchmark, undefined)).toEqual(benchmark.cases);
  });

  it('that leaves nothing names what there is', () => {
    expect(() => chosenCases(benchmark, 'tcp')).toThrow('esp-100B-up, esp-100B-down, udp-100B-up');
  });
});
