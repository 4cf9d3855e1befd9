import type { Benchmark } from '../benchmark.ts';
export const handover: Benchmark = {
  name: 'handover',
  summary: 'x',
  cases: ['x'],
  run: async () => ({ results: [], goals: [], notes: [] }),
};
