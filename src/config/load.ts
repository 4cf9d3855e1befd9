import { checkPools } from './pools.ts';
import { parseRedisUrl } from './redis-url.ts';
import { Settings } from './schema.ts';
import { parseSettingsText, readSettingsFile, refuseSetting as refuse } from './settings-file.ts';

/** Reads and checks a configuration file (YAML or JSON). Throws ERR_MOORING_CONFIG naming field, value and remedy. */
export function loadSettings(file: string): Settings {
  return parseSettings(readSettingsFile(file), file);
}

/** Checks configuration text; `file` names it in errors. Defaults are filled in. */
export function parseSettings(text: string, file = 'configuration'): Settings {
  const settings = parseSettingsText(Settings, text, file);
  checkMeaning(settings, file);
  return settings;
}

/** What a schema cannot say. */
function checkMeaning(settings: Settings, file: string): void {
  if (settings.relay === undefined && settings.signalling === undefined) {
    throw refuse(file, 'relay', 'missing', 'configure `relay`, `signalling` or both: a process needs a role');
  }
  checkRedis(settings, file);
  checkPools(settings.pools, (field, value, remedy) => refuse(file, field, value, remedy));
}

function checkRedis({ redisUrl, redis = {} }: Settings, file: string): void {
  if (redisUrl !== undefined) parseRedisUrl(redisUrl);
  if ((redis.certFile === undefined) !== (redis.keyFile === undefined)) {
    const missing = redis.certFile === undefined ? 'certFile' : 'keyFile';
    throw refuse(file, `redis.${missing}`, 'missing', 'a client certificate needs certFile and keyFile');
  }
}
