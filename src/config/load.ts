import { contains, parseAddress, parsePrefix } from '../protocol/address.ts';
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
  const anchors = new Set<string>();
  const served: { field: string; prefix: ReturnType<typeof parsePrefix> }[] = [];
  const endpoints: { field: string; text: string; bytes: Uint8Array }[] = [];
  settings.pools.forEach((pool, p) => {
    for (const size of ['portBlock', 'spiBlock'] as const) {
      if ((pool[size] & (pool[size] - 1)) !== 0) {
        throw refuse(file, `pools.${p}.${size}`, pool[size], 'use a power of two');
      }
    }
    if (pool.leaseMs.default > pool.leaseMs.max) {
      throw refuse(
        file,
        `pools.${p}.leaseMs.default`,
        pool.leaseMs.default,
        `use at most leaseMs.max (${pool.leaseMs.max})`,
      );
    }
    pool.anchors.forEach((anchor, a) => {
      const field = `pools.${p}.anchors.${a}`;
      if (anchors.has(anchor.id))
        throw refuse(file, `${field}.id`, anchor.id, 'give every anchor an id of its own');
      anchors.add(anchor.id);
      anchor.endpoints.forEach((text, i) => {
        endpoints.push({
          field: `${field}.endpoints.${i}`,
          text,
          bytes: parseAddress(text, `${field}.endpoints.${i}`),
        });
      });
      anchor.prefixes.forEach((text, i) => {
        const prefix = parsePrefix(text, `${field}.prefixes.${i}`);
        const clash = served.find(
          (other) => contains(other.prefix, prefix.bytes) || contains(prefix, other.prefix.bytes),
        );
        if (clash !== undefined) {
          throw refuse(
            file,
            `${field}.prefixes.${i}`,
            text,
            `it overlaps ${clash.field}; an address belongs to one anchor`,
          );
        }
        served.push({ field: `${field}.prefixes.${i}`, prefix });
      });
    });
  });
  for (const endpoint of endpoints) {
    const clash = served.find((other) => contains(other.prefix, endpoint.bytes));
    if (clash !== undefined) {
      throw refuse(
        file,
        endpoint.field,
        endpoint.text,
        `a tunnel endpoint is never leased: take it out of ${clash.field}`,
      );
    }
    if (endpoints.some((other) => other !== endpoint && other.text === endpoint.text)) {
      throw refuse(file, endpoint.field, endpoint.text, 'give every anchor a tunnel endpoint of its own');
    }
  }
}
