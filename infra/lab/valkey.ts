import { existsSync } from 'node:fs';

/** Where `npm run setup` unpacks Valkey's server, and where a machine may have it. */
const PLACES = ['/opt/mooring-lab/valkey/usr/bin/valkey-server', '/usr/bin/valkey-server'];

/** The program of a Valkey server; null: there is none here. */
export function valkeyServer(): string | null {
  return PLACES.find((place) => existsSync(place)) ?? null;
}
