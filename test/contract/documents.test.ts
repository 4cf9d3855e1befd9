import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { parseLaptopConfig } from '../../clients/laptop/config.ts';
import { parseSettings } from '../../src/config/load.ts';

const PAGES = [
  'README.md',
  'ARCHITECTURE.md',
  'CONTRIBUTING.md',
  'PROTOCOL.md',
  'SECURITY.md',
  'docs/operating.md',
  'docs/configuration.md',
];
const page = (name: string) => readFileSync(name, 'utf8');
const blocks = (name: string, language: string) =>
  [...page(name).matchAll(new RegExp(`^\`\`\`${language}\n([\\s\\S]*?)^\`\`\``, 'gm'))].map(
    ([, text]) => text ?? '',
  );
const scripts: Record<string, string> = JSON.parse(page('package.json')).scripts;
const usage = page('src/cli/main.ts') + page('clients/laptop/main.ts');

describe('the documents', () => {
  it("show a device's configuration that the agent accepts", () => {
    const [example = ''] = blocks('README.md', 'yaml');
    expect(parseLaptopConfig(example).kind).toBe('rsipsec');
  });

  it('show a configuration of one machine that the program accepts', () => {
    const [example = ''] = blocks('docs/operating.md', 'yaml');
    expect(parseSettings(example).pools).toHaveLength(2);
  });

  it("show a second relay's settings that the program accepts", () => {
    const [, example = ''] = blocks('docs/operating.md', 'yaml');
    expect(parseSettings(example).relay?.plane?.url).toBe('wss://10.0.0.12:4557');
  });

  it.each(PAGES)('%s names only npm scripts and commands that exist', (name) => {
    for (const [, script = ''] of page(name).matchAll(
      /npm (?:run )?(setup|check|test(?::\w+)?|demo|bench|build)\b/g,
    )) {
      expect(scripts, `npm run ${script}`).toHaveProperty([script]);
    }
    for (const [, command = ''] of page(name).matchAll(/`?mooring ([a-z-]+)(?: [A-Za-z-]+)* --config/g)) {
      expect(usage).toContain(`mooring ${command}`);
    }
  });

  it.each(PAGES)('%s links only to pages and files that are there', (name) => {
    for (const [, target = ''] of page(name).matchAll(/\]\(([^)#:]+)(?:#[^)]*)?\)/g)) {
      expect(existsSync(join(dirname(name), target)), `${name} → ${target}`).toBe(true);
    }
  });

  it('describe folders that exist', () => {
    for (const [, folder = ''] of page('ARCHITECTURE.md').matchAll(/^ {2}([a-z]+)\/ {2}/gm)) {
      expect(existsSync(join('src', folder)), folder).toBe(true);
    }
  });
});
