import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, afterEach, describe, expect, test, vi } from 'vitest';
import { parse } from 'yaml';
import { parseLaptopConfig } from '../../../clients/laptop/config.ts';
import { runDeviceCommand } from '../../../clients/laptop/main.ts';
import { anchorNoun } from '../../../src/cli/operator/anchors.ts';
import { type Noun, runOperatorCommand } from '../../../src/cli/operator/command.ts';
import { leaseNoun } from '../../../src/cli/operator/leases.ts';
import { poolNoun } from '../../../src/cli/operator/pools.ts';
import { relayNoun } from '../../../src/cli/operator/relays.ts';
import { parseSettings } from '../../../src/config/load.ts';
import type { MooringError } from '../../../src/protocol/errors.ts';

/** What the manual says to write is understood: no command and no setting of it is gone, or was never there. */
const top = fileURLToPath(new URL('../../..', import.meta.url));
const inFolder = (folder: string) =>
  readdirSync(join(top, folder))
    .filter((name) => name.endsWith('.md'))
    .map((name) => join(folder, name));
const pages = ['README.md', 'SECURITY.md', ...inFolder('docs'), ...inFolder('docs/scenarios')].map(
  (name) => ({ name, text: readFileSync(join(top, name), 'utf8') }),
);

const NOUNS = new Map<string, Noun>(
  [poolNoun, anchorNoun, leaseNoun, relayNoun].map((noun) => [noun.name, noun]),
);
const OF_DEVICES = ['up', 'login', 'use', 'down', 'restore'];
/** Of both; their options are those of servers. */
const OF_SERVERS: Readonly<Record<string, readonly string[]>> = {
  serve: ['config', 'engine'],
  check: ['config'],
  status: ['config', 'json', 'watch'],
  metrics: ['config'],
};

/** Whole lines of examples, and commands within sentences; what may be left out is said. */
function commandsIn(text: string): string[] {
  const lines = text.split('\n').filter((line) => line.startsWith('mooring '));
  const within = [...text.matchAll(/`mooring ([^`]*)`/g)].map(([, rest]) => `mooring ${rest}`);
  return [...lines, ...within]
    .map((line) => line.replace(/ +#.*| +—.*/, '').replace(/[[\]]|\u2026/g, ' '))
    .filter((line) => !/^mooring \S*\|/.test(line))
    .map((line) => line.trim().split(/\s+/).slice(1).join(' '));
}

const folder = mkdtempSync(join(tmpdir(), 'mooring-manual-'));
const token = join(folder, 'token');
writeFileSync(token, 'a.b.c\n');
afterAll(() => rmSync(folder, { recursive: true }));
afterEach(() => vi.restoreAllMocks());

const codeOf = (promise: Promise<unknown>) =>
  promise.then(
    () => 'done',
    (error: MooringError) => `${error.code}: ${error.message.split('\n')[0]}`,
  );

describe.each(pages.filter(({ text }) => commandsIn(text).length > 0))('$name', ({ text }) => {
  test.each([...new Set(commandsIn(text))])('mooring %s', async (line) => {
    vi.spyOn(process.stdout, 'write').mockReturnValue(true);
    const [command = '', ...args] = line.split(' ');
    const noun = NOUNS.get(command);
    if (noun !== undefined) {
      // A verb that is only named is looked up; one with all that it needs is run up to its first question.
      const [verb = '--help'] = args;
      expect([...Object.keys(noun.verbs), '--help']).toContain(verb);
      if (args.length > 1) {
        const nowhere = args.includes('--url') ? [] : ['--url', 'https://127.0.0.1:1', '--token-file', token];
        const fault = await codeOf(runOperatorCommand(noun, [...args, ...nowhere]));
        // Files that the manual names are not here.
        expect(fault).toMatch(/^(?!ERR_MOORING_USAGE)|: cannot be read/);
      }
    } else if (OF_DEVICES.includes(command)) {
      const words = args.includes('--config') ? args : [...args, '--config', '/nonexistent/device.yaml'];
      expect(await codeOf(runDeviceCommand(command, words))).toContain('ERR_MOORING_CONFIG');
    } else {
      expect(Object.keys(OF_SERVERS)).toContain(command);
      const options = args.filter((arg) => arg.startsWith('--')).map((arg) => arg.slice(2));
      expect(OF_SERVERS[command]).toEqual(expect.arrayContaining(options));
    }
  });
});

type Settings = Readonly<Record<string, unknown>>;
/** Examples that begin at the left edge; what stands indented is a part of one. */
const examples = pages.flatMap(({ name, text }) =>
  [...text.matchAll(/^```yaml\n(\S[\s\S]*?)^```/gm)].map(([, yaml = '']) => ({
    name,
    yaml,
    settings: parse(yaml) as Settings,
  })),
);
const whole = (name: string) => examples.find((one) => one.name === name)!.settings;

test.each(examples)(
  '$name: an example of settings is taken as it stands, with what another leaves out',
  (example) => {
    const { settings } = example;
    const ofServer = ['pools', 'relay', 'admin', 'redisUrl', 'dataDir'].some((field) => field in settings);
    const base = whole(ofServer ? 'docs/operating.md' : 'README.md');
    const text = JSON.stringify({ ...base, ...settings });
    if (ofServer) expect(() => parseSettings(text, example.name)).not.toThrow();
    else expect(() => parseLaptopConfig(text, example.name)).not.toThrow();
  },
);
