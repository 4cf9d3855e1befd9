#!/usr/bin/env node
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { MooringError } from '../protocol/errors.ts';
import { endFailed } from '../telemetry/failure.ts';
import type { Noun } from './operator/command.ts';

const USAGE = `mooring: leases of a public IP presence that stay while devices wander

  mooring serve --config FILE [--engine auto|xdp|userspace]
                                              run the roles that FILE configures (relay, signalling); --engine goes
                                              before what FILE says of the relay's packet engine
  mooring check --config FILE                 say whether FILE is right, and what is wrong with it
  mooring status --config FILE [--json]       what the running program serves (or a device's agent does)
  mooring metrics --config FILE               its metrics in Prometheus' format
  mooring pool|anchor|lease|relay VERB …      what an operator looks at and changes: mooring pool --help
  mooring up|login|down|use|restore …         the device's agent: mooring up --help
`;

/** Sub-commands of the device's agent; `status` is one when the configuration is a device's. */
const DEVICE_COMMANDS = ['up', 'login', 'down', 'use', 'restore'];

/** Sub-commands of operators, by what they are about. */
const NOUNS: Readonly<Record<string, () => Promise<Noun>>> = {
  pool: async () => (await import('./operator/pools.ts')).poolNoun,
  anchor: async () => (await import('./operator/anchors.ts')).anchorNoun,
  lease: async () => (await import('./operator/leases.ts')).leaseNoun,
  relay: async () => (await import('./operator/relays.ts')).relayNoun,
};

async function main(argv: readonly string[]): Promise<void> {
  const [command = 'help', ...rest] = argv;
  const noun = Object.hasOwn(NOUNS, command) ? NOUNS[command] : undefined;
  if (noun !== undefined) {
    const { runOperatorCommand } = await import('./operator/command.ts');
    return runOperatorCommand(await noun(), rest);
  }
  if (DEVICE_COMMANDS.includes(command) || (command === 'status' && (await namesDevice(rest)))) {
    const { runDeviceCommand } = await import('../../clients/laptop/main.ts');
    return runDeviceCommand(command, rest);
  }
  const values = optionsIn(rest);
  const configFile = () => {
    if (values.config === undefined) throw usage('--config is missing; name the configuration file');
    return values.config;
  };
  // Loaded by the commands that need it: the supervisor is to stay small.
  const settings = async () => (await import('../config/load.ts')).loadSettings(configFile());
  const ask = async (url: string) => {
    const { dataDir } = await settings();
    const { askControl } = await import('../admin/ask-control.ts');
    return askControl(join(dataDir, 'control.sock'), 'GET', url);
  };
  const print = (text: string) => process.stdout.write(`${text}\n`);
  switch (command) {
    case 'serve': {
      const { supervise } = await import('./supervisor.ts');
      process.exit(await supervise(configFile(), engineOf(values.engine)));
      return;
    }
    case 'check':
      await settings();
      print(`${values.config}: ok`);
      return;
    case 'status':
      print(render(await ask('/status'), values.json));
      return;
    case 'metrics':
      print(await ask('/metrics'));
      return;
    case 'help':
    case '--help':
    case '-h':
      print(USAGE);
      return;
    default:
      throw usage(`there is no command ${JSON.stringify(command)}`);
  }
}

function optionsIn(args: readonly string[]) {
  try {
    return parseArgs({
      args: [...args],
      options: {
        config: { type: 'string' },
        engine: { type: 'string' },
        json: { type: 'boolean', default: false },
      },
    }).values;
  } catch (cause) {
    throw usage((cause as Error).message.split('.')[0] ?? '');
  }
}

/** True when `--config` names a device's configuration: only that names an issuer to fetch tokens from. */
async function namesDevice(args: readonly string[]): Promise<boolean> {
  const { config } = parseArgs({
    args: [...args],
    strict: false,
    options: { config: { type: 'string' } },
  }).values;
  if (typeof config !== 'string') return false;
  const { topLevelNames } = await import('../config/settings-file.ts');
  return topLevelNames(config).includes('issuer');
}

function engineOf(wish: string | undefined): string | undefined {
  if (wish === undefined || ['auto', 'xdp', 'userspace'].includes(wish)) return wish;
  throw usage(`--engine ${wish}: use auto, xdp or userspace`);
}

function usage(fault: string): MooringError {
  return new MooringError('ERR_MOORING_USAGE', `${fault}\n\n${USAGE}`);
}

/** JSON as it came, or as indented lines for a person. */
function render(text: string, json: boolean): string {
  if (json) return text;
  const lines: string[] = [];
  const walk = (value: unknown, name: string, depth: number): void => {
    const indent = '  '.repeat(depth);
    if (value !== null && typeof value === 'object') {
      lines.push(`${indent}${name}`);
      for (const [key, inner] of Object.entries(value)) walk(inner, key, depth + 1);
    } else lines.push(`${indent}${name}: ${String(value)}`);
  };
  for (const [key, value] of Object.entries(JSON.parse(text) as object)) walk(value, key, 0);
  return lines.join('\n');
}

main(process.argv.slice(2)).catch(endFailed);
