import { contains, parseAddress, parsePrefix } from '../protocol/address.ts';
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
  if (settings.relay === undefined && settings.signalling === undefined && settings.admin === undefined) {
    throw refuse(
      file,
      'relay',
      'missing',
      'configure `relay`, `signalling` or `admin`: a process needs a role',
    );
  }
  checkAdmin(settings, file);
  checkRedis(settings, file);
  checkPools(settings.pools, (field, value, remedy) => refuse(file, field, value, remedy));
}

function checkAdmin({ admin }: Settings, file: string): void {
  if (admin === undefined) return;
  const { listen, tls, issuers, url } = admin;
  if (issuers.length === 0 && tls?.operatorCaFile === undefined) {
    throw refuse(
      file,
      'admin.issuers',
      'empty',
      'name an issuer of tokens or admin.tls.operatorCaFile: otherwise nobody can enter',
    );
  }
  if (tls === undefined && !isLoopback(listen.host)) {
    throw refuse(
      file,
      'admin.tls',
      'missing',
      `tokens would cross the network in clear: give certFile and keyFile, or listen on 127.0.0.1 instead of ${listen.host}`,
    );
  }
  if (tls !== undefined && !url.startsWith('https:')) {
    throw refuse(file, 'admin.url', url, 'it is served over TLS: write https');
  }
}

function isLoopback(host: string): boolean {
  if (host === 'localhost') return true;
  const address = parseAddress(host, 'admin.listen.host');
  return ['127.0.0.0/8', '::1'].some((prefix) => contains(parsePrefix(prefix), address));
}

function checkRedis({ redisUrl, redis = {} }: Settings, file: string): void {
  if (redisUrl !== undefined) parseRedisUrl(redisUrl);
  if ((redis.certFile === undefined) !== (redis.keyFile === undefined)) {
    const missing = redis.certFile === undefined ? 'certFile' : 'keyFile';
    throw refuse(file, `redis.${missing}`, 'missing', 'a client certificate needs certFile and keyFile');
  }
}
