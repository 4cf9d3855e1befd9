import { execFileSync } from 'node:child_process';
import { expect, test } from 'vitest';
import { bundlePrograms } from '../../bundled-programs.ts';

const isRoot = process.geteuid?.() === 0;

test.skipIf(!isRoot)(
  "a network's translator to IPv4 is found by asking its resolver, and missed without a fault (needs root: network namespaces)",
  async () => {
    const program = await bundlePrograms('nat64', ['integration/clients/nat64-steps.ts']);
    const text = execFileSync('unshare', ['--net', '--mount', process.execPath, program('nat64-steps')], {
      encoding: 'utf8',
      timeout: 30_000,
    });
    expect(JSON.parse(text)).toEqual({
      found: ['2001:db8:122:344::/96'],
      without: [],
      silent: [],
      asked: ['ipv4only.arpa 28', 'ipv4only.arpa 28'],
    });
  },
);
