import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import type { RelaySettings, Settings } from '../config/schema.ts';
import { MooringError } from '../protocol/errors.ts';
import { endFailed } from '../telemetry/failure.ts';
import { createLog } from '../telemetry/log.ts';
import { serve } from './serve.ts';
import { joinSupervisor, type Supervised } from './supervised.ts';

/** The process that serves. The supervisor starts it, and again when it ends. */

async function main(): Promise<void> {
  const supervised = joinSupervisor();
  const { values } = parseArgs({ options: { config: { type: 'string' }, engine: { type: 'string' } } });
  const settings = withEngine(await settingsOf(values.config!, supervised), values.engine);
  const log = createLog(settings.logLevel, 'mooring');
  const server = await serve(settings, log, supervised);
  let stopping = false;
  const stop = (signal: string) => {
    // A terminal's Ctrl-C reaches this process and the supervisor, which asks as well.
    if (stopping) return;
    stopping = true;
    log.info({ signal }, 'stopping');
    server.close().then(
      () => process.exit(0),
      (error: Error) => {
        log.error({ error: error.message }, 'did not stop cleanly');
        process.exit(1);
      },
    );
  };
  process.on('SIGINT', stop);
  process.on('SIGTERM', stop);
  supervised.up();
}

/** What a predecessor made of the same text needs no second check: a restart is to be short. */
async function settingsOf(file: string, supervised: Supervised): Promise<Settings> {
  const known = supervised.briefing.settings;
  if (known !== null && digestOf(file) === known.digest) return JSON.parse(known.json) as Settings;
  const { loadSettings } = await import('../config/load.ts');
  const settings = loadSettings(file);
  const digest = digestOf(file);
  if (digest !== null) supervised.keepSettings({ digest, json: JSON.stringify(settings) });
  return settings;
}

/** The command's word goes before the file's. */
function withEngine(settings: Settings, engine: string | undefined): Settings {
  if (engine === undefined) return settings;
  if (settings.relay === undefined) {
    throw new MooringError('ERR_MOORING_USAGE', '--engine is for relays, and the file configures none');
  }
  return { ...settings, relay: { ...settings.relay, engine: engine as RelaySettings['engine'] } };
}

function digestOf(file: string): string | null {
  try {
    return createHash('sha256').update(readFileSync(file)).digest('hex');
  } catch {
    return null;
  }
}

main().catch(endFailed);
