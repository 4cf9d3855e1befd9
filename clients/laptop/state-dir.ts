import { randomBytes } from 'node:crypto';
import {
  closeSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { exportJWK, importJWK, type JWK } from 'jose';
import { MooringError } from '../../src/protocol/errors.ts';
import { type DpopKey, dpopKey, generateDpopKey } from '../sdk/dpop.ts';

/** What the agent remembers of its lease between runs. */
export interface HeldLeaseRecord {
  /** Names the wish: repeated after a crash, it returns the same lease. */
  readonly request: string;
  readonly pool: string;
  readonly kind: string;
  /** Null while the wish is on its way. */
  readonly lease: string | null;
}

/** The agent's directory: readable by its owner only, every write whole or not at all. */
export class StateDir {
  readonly path: string;

  constructor(path: string) {
    this.path = path;
    mkdirSync(path, { recursive: true, mode: 0o700 });
  }

  file(name: string): string {
    return join(this.path, name);
  }

  read(name: string): string | null {
    try {
      return readFileSync(this.file(name), 'utf8');
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null;
      throw error;
    }
  }

  /** Replaces a file; on the disk when it returns. */
  write(name: string, text: string): void {
    const temporary = this.file(`${name}.${randomBytes(4).toString('hex')}.new`);
    const fd = openSync(temporary, 'wx', 0o600);
    try {
      writeFileSync(fd, text);
      fsyncSync(fd);
    } finally {
      closeSync(fd);
    }
    renameSync(temporary, this.file(name));
    const dir = openSync(dirname(this.file(name)), 'r');
    try {
      fsyncSync(dir);
    } finally {
      closeSync(dir);
    }
  }

  /** Adds to the end of a file; on the disk when it returns. What a crash cuts short has no end of line. */
  append(name: string, line: string): void {
    const fd = openSync(this.file(name), 'a', 0o600);
    try {
      writeFileSync(fd, line);
      fsyncSync(fd);
    } finally {
      closeSync(fd);
    }
  }

  remove(name: string): void {
    rmSync(this.file(name), { force: true });
  }
}

const KEY_FILE = 'device-key.json';
const LEASE_FILE = 'lease.json';

/** The device's DPoP key: made on the first run, the device's identity towards its sessions ever after. */
export async function deviceKey(state: StateDir): Promise<DpopKey> {
  const stored = state.read(KEY_FILE);
  if (stored === null) {
    const made = await generateDpopKey(true);
    state.write(KEY_FILE, JSON.stringify(await exportJWK(made.privateKey)));
    return made;
  }
  try {
    const jwk = JSON.parse(stored) as JWK;
    const privateKey = await importJWK(jwk, 'ES256');
    return await dpopKey(privateKey as DpopKey['privateKey'], jwk);
  } catch (cause) {
    throw new MooringError(
      'ERR_MOORING_STATE',
      `${state.file(KEY_FILE)} does not hold an ES256 private key; restore it, or remove it for a new key`,
      { cause },
    );
  }
}

export function readHeldLease(state: StateDir): HeldLeaseRecord | null {
  const stored = state.read(LEASE_FILE);
  if (stored === null) return null;
  try {
    const record = JSON.parse(stored) as HeldLeaseRecord;
    return /^[0-9a-f]{32}$/.test(record.request) ? record : null;
  } catch {
    return null;
  }
}

export function writeHeldLease(state: StateDir, record: HeldLeaseRecord | null): void {
  if (record === null) state.remove(LEASE_FILE);
  else state.write(LEASE_FILE, JSON.stringify(record));
}
