#!/usr/bin/env node
import { realpathSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { MooringError } from '../../src/protocol/errors.ts';
import { endFailed } from '../../src/telemetry/failure.ts';
import { createLog } from '../../src/telemetry/log.ts';
import { CONTROL_SOCKET, restoreMachine, runAgent } from './agent.ts';
import { loadLaptopConfig } from './config.ts';
import { askAgent } from './control-socket.ts';
import { logIn } from './login.ts';
import { SETTING_FLAGS, settingsFrom } from './setting-flags.ts';
import { deviceKey, StateDir } from './state-dir.ts';
import type { AgentStatus } from './status.ts';
import { summary } from './summary.ts';

const USAGE = `mooring: the device's agent

  mooring up --config FILE             lease, and carry the lease's packets, until SIGINT or SIGTERM
  mooring login --config FILE          sign in for this device, in a browser anywhere
  mooring status --config FILE [--json] [--watch]
                                       lease, path, round trip, counters, moves; --watch: every second
  mooring use LINK --config FILE       prefer this interface now, by make-before-break; "auto" ends that
  mooring down --config FILE [--free]  stop the running agent; --free gives the lease back
  mooring restore --config FILE        take back what an agent that crashed has changed on this machine

Every setting of the file is a flag too, and goes before it: --behind br0, --killSwitch, --signalling.url wss://…
`;

const WATCH_EVERY_MS = 1_000;
/** Cursor home, rest of the screen erased (ECMA-48). */
const CLEAR_SCREEN = '\x1b[H\x1b[J';

/** Runs one of the agent's commands with the arguments behind it. Throws what is to be shown to the user. */
export async function runDeviceCommand(command: string, argv: readonly string[]): Promise<void> {
  const { values, positionals } = parsed(argv);
  const print = (text: string): void => {
    process.stdout.write(`${text}\n`);
  };
  if (values.help) return print(USAGE);
  if (values.config === undefined) throw usage('--config is missing; name the configuration file');
  const config = loadLaptopConfig(values.config, settingsFrom(values));
  const socket = join(config.stateDir, CONTROL_SOCKET);
  switch (command) {
    case 'up': {
      const agent = await runAgent(config, { log: createLog(config.logLevel, 'mooring-device') });
      for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
        process.once(signal, () => void agent.stop());
      }
      await agent.done;
      return;
    }
    case 'login': {
      const { stateDir, issuer } = config;
      const state = new StateDir(stateDir);
      await logIn(issuer, await deviceKey(state), state, {
        wait: (ms) => setTimeout(ms),
        prompt: ({ url, code, completeUrl, expiresInS }) =>
          print(
            `To sign in, open ${url} in a browser and enter ${code}${completeUrl === null ? '' : `,\nor open ${completeUrl}`}\n(within ${Math.round(expiresInS / 60)} minutes)`,
          ),
      });
      return print('signed in');
    }
    case 'status': {
      do {
        const status = (await askAgent(socket, { command: 'status' })) as AgentStatus;
        if (values.watch && !values.json && process.stdout.isTTY) print(CLEAR_SCREEN);
        print(values.json ? JSON.stringify(status) : summary(status));
        if (values.watch) await setTimeout(WATCH_EVERY_MS);
      } while (values.watch);
      return;
    }
    case 'use': {
      const [link] = positionals;
      if (link === undefined) throw usage('write: mooring use LINK --config FILE');
      const move = await askAgent(socket, { command: 'use', link: link === 'auto' ? null : link });
      return print(JSON.stringify(move));
    }
    case 'down':
      await askAgent(socket, { command: 'down', free: values.free });
      return;
    case 'restore': {
      if (await isRunning(socket)) {
        throw new MooringError(
          'ERR_MOORING_ALREADY_RUNNING',
          `${socket}: the agent runs; stop it with \`down\`, which takes its changes back too`,
        );
      }
      return print(`taken back: ${restoreMachine(config)} changes`);
    }
    default:
      throw usage(`there is no command ${JSON.stringify(command)}`);
  }
}

function parsed(argv: readonly string[]) {
  try {
    return parseArgs({
      args: [...argv],
      allowPositionals: true,
      options: {
        // Read by name below, so the type does not list them.
        ...(SETTING_FLAGS as Record<never, { type: 'string' }>),
        config: { type: 'string' },
        json: { type: 'boolean', default: false },
        watch: { type: 'boolean', default: false },
        free: { type: 'boolean', default: false },
        help: { type: 'boolean', short: 'h', default: false },
      },
    });
  } catch (error) {
    // An option that does not exist, or has no value.
    throw usage((error as Error).message);
  }
}

async function isRunning(socket: string): Promise<boolean> {
  try {
    await askAgent(socket, { command: 'status' });
    return true;
  } catch (error) {
    return !(error instanceof MooringError && error.code === 'ERR_MOORING_NOT_RUNNING');
  }
}

function usage(fault: string): MooringError {
  return new MooringError('ERR_MOORING_USAGE', `${fault}\n\n${USAGE}`);
}

if (process.argv[1] !== undefined && realpathSync(process.argv[1]) === fileURLToPath(import.meta.url)) {
  const [command = 'help', ...rest] = process.argv.slice(2);
  runDeviceCommand(command, rest).catch(endFailed);
}
