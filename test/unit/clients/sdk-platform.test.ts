import { readFileSync } from 'node:fs';
import { builtinModules } from 'node:module';
import { dirname, join, relative, resolve } from 'node:path';
import { describe, expect, test } from 'vitest';

const root = resolve(import.meta.dirname, '../../..');
const IMPORT = /(?:^|\n)\s*(?:import|export)\s(?:[^'";]*?\sfrom\s)?'([^']+)'|import\('([^']+)'\)/g;

interface Reached {
  readonly file: string;
  readonly imports: string;
}

/** Every package or builtin that the module graph from `entries` reaches at run time or in types. */
function reachedFrom(
  entries: readonly string[],
  read = (file: string) => readFileSync(file, 'utf8'),
): Reached[] {
  const reached: Reached[] = [];
  const seen = new Set<string>();
  const visit = (file: string): void => {
    if (seen.has(file)) return;
    seen.add(file);
    for (const [, plain, dynamic] of read(file).matchAll(IMPORT)) {
      const specifier = plain ?? dynamic ?? '';
      if (specifier.startsWith('.')) visit(resolve(dirname(file), specifier));
      else reached.push({ file: relative(root, file), imports: specifier });
    }
  };
  for (const entry of entries) visit(entry);
  return reached;
}

const NODE_ONLY = new Set([...builtinModules, 'ws', 'koffi', 'pino', 'fastify', 'ioredis']);
const isNodeOnly = ({ imports }: Reached): boolean =>
  imports.startsWith('node:') || NODE_ONLY.has(imports.split('/')[0] ?? '');

describe('the sdk runs in a browser too', () => {
  const entries = ['signalling', 'device', 'session', 'dpop'].map((name) =>
    join(root, 'clients/sdk', `${name}.ts`),
  );

  test('nothing that it reaches is made for Node only', () => {
    const reached = reachedFrom(entries);
    expect(reached.length).toBeGreaterThan(5);
    expect(reached.filter(isNodeOnly)).toEqual([]);
  });

  test('the check would see a Node-only import, also behind another module', () => {
    const files: Record<string, string> = {
      [join(root, 'a.ts')]: "import { b } from './b.ts';",
      [join(root, 'b.ts')]: "import type { X } from 'jose';\nexport { readFile } from 'node:fs/promises';",
    };
    const reached = reachedFrom([join(root, 'a.ts')], (file) => files[file] ?? '');
    expect(reached.filter(isNodeOnly)).toEqual([{ file: 'b.ts', imports: 'node:fs/promises' }]);
  });
});
