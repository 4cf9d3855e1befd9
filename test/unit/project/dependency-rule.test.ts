import { describe, expect, it } from 'vitest';
import { breaches } from '../../../infra/build/dependency-rule.ts';

describe('the dependency rule', () => {
  it('lets a folder import the levels below it', () => {
    expect(breaches('src/relay/a.ts', "import { x } from '../registry/registry.ts';")).toEqual([]);
    expect(breaches('src/cli/a.ts', "await import('../../clients/laptop/main.ts');")).toEqual([]);
    expect(breaches('src/datapath/userspace/a.ts', "import { x } from '../../tunnel/wire.ts';")).toEqual([]);
  });

  it.each([
    ['an upper level', 'src/registry/a.ts', "import { x } from '../relay/node.ts';"],
    ['a neighbour of the same level', 'src/signalling/a.ts', "import { x } from '../relay/node.ts';"],
    ['a type of an upper level', 'src/tunnel/a.ts', "import type { X } from '../datapath/engine-api.ts';"],
    ['an upper level when it runs', 'src/protocol/a.ts', "const x = await import('../cli/main.ts');"],
    ['infrastructure', 'src/cli/a.ts', "import { x } from '../../infra/lab/lab.ts';"],
    [
      'the registry from a device',
      'clients/laptop/a.ts',
      "import { x } from '../../src/registry/registry.ts';",
    ],
    ['Linux from the SDK', 'clients/sdk/a.ts', "import { x } from '../../src/linux/tun.ts';"],
    ['Node from what runs in a browser', 'src/rebinding/a.ts', "import { randomBytes } from 'node:crypto';"],
  ])('refuses an import of %s', (_what, file, text) => {
    expect(breaches(file, text)).toHaveLength(1);
  });
});
