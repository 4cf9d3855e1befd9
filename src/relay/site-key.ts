import { createHash, randomBytes } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { MooringError } from '../protocol/errors.ts';
import { fileFault } from '../protocol/file-fault.ts';
import type { Log } from '../telemetry/log.ts';

/**
 * The site's master key, 32 octets: from `file`, or from `dataDir/site.key`, which is made on the first start.
 * Relays of one site must share it, so a second relay needs `file`. Throws ERR_MOORING_SITE_KEY.
 */
export function loadSiteKey(options: {
  readonly file: string | undefined;
  readonly dataDir: string;
  readonly log: Log;
}): Uint8Array {
  const path = options.file ?? join(options.dataDir, 'site.key');
  let text: string;
  try {
    text = readFileSync(path, 'utf8').trim();
  } catch (cause) {
    if (options.file !== undefined) {
      throw new MooringError(
        'ERR_MOORING_SITE_KEY',
        `${path} cannot be read; give relay.masterKeyFile a readable file`,
        {
          cause,
        },
      );
    }
    // Another key would be another site.
    if ((cause as NodeJS.ErrnoException).code !== 'ENOENT')
      throw fileFault('ERR_MOORING_SITE_KEY', path, 'cannot be read', cause);
    text = randomBytes(32).toString('hex');
    try {
      mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
      writeFileSync(path, `${text}\n`, { mode: 0o600, flag: 'wx' });
    } catch (failure) {
      throw fileFault('ERR_MOORING_SITE_KEY', path, 'cannot be made', failure);
    }
    options.log.info({ path }, 'made a site key; copy it to every other relay of this site');
  }
  if (!/^[0-9a-fA-F]{64}$/.test(text)) {
    throw new MooringError(
      'ERR_MOORING_SITE_KEY',
      `${path} does not hold 64 hexadecimal digits; make one with: openssl rand -hex 32`,
    );
  }
  return Uint8Array.from(Buffer.from(text, 'hex'));
}

/** Names the site to its relays, by the key that only they have. */
export function siteName(siteKey: Uint8Array): string {
  return createHash('sha256').update('mooring v1 site').update(siteKey).digest('hex').slice(0, 16);
}
