import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';

type Observed = Record<
  'IPv4' | 'IPv6' | 'behind',
  { readonly withRule: boolean; readonly withoutRule: boolean }
>;

const isRoot = process.geteuid?.() === 0;

describe.skipIf(!isRoot)('a neighbour on the access network (needs root: network namespaces)', () => {
  let observed: Observed;

  beforeAll(() => {
    const script = join(import.meta.dirname, 'neighbour-steps.ts');
    const text = execFileSync('unshare', ['--net', process.execPath, '--import', 'tsx', script], {
      encoding: 'utf8',
      timeout: 50_000,
    });
    observed = JSON.parse(text) as Observed;
  });

  test.each(['IPv4', 'IPv6'] as const)(
    'R44: asks for the leased address and gets no answer from the device (%s)',
    (family) => {
      expect(observed[family].withRule).toBe(false);
    },
  );

  test('R44: gets none for the address of a host behind the device either, as it would by proxy ARP', () => {
    expect(observed.behind).toEqual({ withRule: false, withoutRule: true });
  });

  test('would get one over IPv4 without the rule: the probe can fail', () => {
    expect(observed.IPv4.withoutRule).toBe(true);
  });
});
