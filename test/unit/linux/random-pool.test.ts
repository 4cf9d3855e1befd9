import { expect, test } from 'vitest';
import { createRandomPool } from '../../../src/linux/random-pool.ts';

test('no octets come twice, across refills and whatever was asked for', () => {
  const random = createRandomPool();
  const seen = new Set<string>();
  for (let draw = 0; draw < 4_000; draw += 1) {
    const octets = random(draw % 2 === 0 ? 16 : 24);
    expect(octets).toHaveLength(draw % 2 === 0 ? 16 : 24);
    seen.add(Buffer.from(octets).toString('hex'));
  }
  expect(seen.size).toBe(4_000);
  expect(random(20_000)).toHaveLength(20_000);
  expect(random(0)).toHaveLength(0);
});

test('what was drawn is the caller’s alone', () => {
  const random = createRandomPool();
  const first = random(16);
  first.fill(0);
  expect(random(16).some((octet) => octet !== 0)).toBe(true);
});
