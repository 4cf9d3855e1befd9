import { type LookupAddress, lookup as systemLookup } from 'node:dns';
import type { LookupFunction } from 'node:net';
import type { Destination } from './kill-switch.ts';
import type { StateDir } from './state-dir.ts';

const FILE = 'hosts.json';
/** Resolvers that do not answer are waited for this long where an address is known. */
const PATIENCE_MS = 2_000;
const KEPT = 8;

interface Known {
  /** Addresses at which the host has proven itself by its certificate. */
  proven: readonly string[];
  /** What the resolver said last. */
  latest: readonly string[];
}

export interface ControlHostsOptions {
  readonly urls: readonly string[];
  readonly state: StateDir;
  /** The addresses changed; called before one of them is connected to. */
  readonly onChange?: () => void;
  /** How long an answer of the resolver is waited for where an address is known, milliseconds. */
  readonly patienceMs?: number;
  /** Where else an address is reached from here, as through a translator. */
  readonly elsewhere?: (address: string) => readonly string[];
  readonly resolve?: (host: string) => Promise<readonly string[]>;
}

/**
 * Where signalling and issuer are: the agent reaches them beside the tunnel, also when nothing resolves their names.
 * What a hostile network's resolver says is tried, and never displaces an address that has proven itself.
 */
export class ControlHosts {
  readonly #options: ControlHostsOptions;
  readonly #ports = new Map<string, Set<number>>();
  readonly #known = new Map<string, Known>();

  constructor(options: ControlHostsOptions) {
    this.#options = options;
    const remembered = read(options.state);
    for (const text of options.urls) {
      const { hostname, port, protocol } = new URL(text);
      const host = hostOf(hostname);
      const ports = this.#ports.get(host) ?? new Set<number>();
      ports.add(port === '' ? (/^(wss|https):$/.test(protocol) ? 443 : 80) : Number(port));
      this.#ports.set(host, ports);
      this.#known.set(host, { proven: isLiteral(host) ? [host] : (remembered[host] ?? []), latest: [] });
    }
  }

  /** Every address that may be connected to, with its ports. */
  get destinations(): readonly Destination[] {
    return [...this.#known].flatMap(([host, known]) =>
      this.#reached(addressesOf(known)).flatMap((address) =>
        [...this.#ports.get(host)!].map((port) => ({ address, port })),
      ),
    );
  }

  /** Every host has at least one address. */
  get complete(): boolean {
    return [...this.#known.values()].every((known) => addressesOf(known).length > 0);
  }

  /** Asks the resolver for all of them; what it does not answer stays as it was. */
  async refresh(): Promise<void> {
    await Promise.allSettled([...this.#known.keys()].map((host) => this.#ask(host)));
  }

  /** The host of this URL has just proven itself: it is remembered where it was found. */
  proven(url: string, address: string | undefined): void {
    const { hostname, protocol } = new URL(url);
    if (!/^(wss|https):$/.test(protocol)) return;
    const host = hostOf(hostname);
    const known = this.#known.get(host);
    if (known === undefined || address === undefined || isLiteral(host) || known.proven[0] === address)
      return;
    // A translator's address means nothing in another network.
    const own = addressesOf(known);
    if (!own.includes(address) && this.#reached(own).includes(address)) return;
    known.proven = [address, ...known.proven.filter((other) => other !== address)].slice(0, KEPT);
    const all = [...this.#known].map(([name, { proven }]) => [name, proven] as const);
    this.#options.state.write(FILE, JSON.stringify(Object.fromEntries(all)));
  }

  /** In the place of the system's resolver, for `net`, `tls` and `http`. */
  readonly lookup: LookupFunction = (host, options, callback) => {
    const answer = (addresses: readonly string[]): void => {
      const wanted = options.family === 4 || options.family === 6 ? options.family : 0;
      const all: LookupAddress[] = addresses
        .map((address) => ({ address, family: address.includes(':') ? 6 : 4 }))
        .filter(({ family }) => wanted === 0 || family === wanted);
      const [first] = all;
      if (first === undefined) {
        const error: NodeJS.ErrnoException = new Error(`${host} has no address here`);
        error.code = 'ENOTFOUND';
        callback(error, '');
      } else if (options.all) callback(null, all);
      else callback(null, first.address, first.family);
    };
    this.#ask(host).then(
      (addresses) => answer(this.#reached(addresses)),
      (error: NodeJS.ErrnoException) => callback(error, ''),
    );
  };

  /** Those first, then how else they are reached. */
  #reached(addresses: readonly string[]): readonly string[] {
    const { elsewhere } = this.#options;
    return elsewhere === undefined
      ? addresses
      : [...new Set([...addresses, ...addresses.flatMap((address) => elsewhere(address))])];
  }

  async #ask(host: string): Promise<readonly string[]> {
    const known = this.#known.get(host) ?? { proven: [], latest: [] };
    if (isLiteral(host)) return [host];
    const { resolve = bySystem, patienceMs = PATIENCE_MS, onChange = () => {} } = this.#options;
    const asked = resolve(host);
    const before = addressesOf(known);
    try {
      const answer = before.length === 0 ? await asked : await within(asked, patienceMs);
      known.latest = answer.slice(0, KEPT);
    } catch (error) {
      if (before.length === 0) throw error;
    }
    const now = addressesOf(known);
    if (now.join() !== before.join()) onChange();
    return now;
  }
}

function addressesOf({ proven, latest }: Known): readonly string[] {
  // The resolver's word first, in an honest network it is the newest; what has proven itself stays to be tried.
  return [...new Set([...latest, ...proven])];
}

function isLiteral(host: string): boolean {
  return host.includes(':') || /^[\d.]+$/.test(host);
}

function hostOf(hostname: string): string {
  return hostname.replace(/^\[(.*)\]$/, '$1');
}

function bySystem(host: string): Promise<readonly string[]> {
  return new Promise((resolve, reject) => {
    systemLookup(host, { all: true }, (error, found) =>
      error === null ? resolve(found.map(({ address }) => address)) : reject(error),
    );
  });
}

function within<T>(promise: Promise<T>, ms: number): Promise<T> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`no answer within ${ms} ms`)), ms);
    promise.then(resolve, reject).finally(() => clearTimeout(timer));
  });
}

function read(state: StateDir): Readonly<Record<string, readonly string[]>> {
  const stored = state.read(FILE);
  if (stored === null) return {};
  try {
    const value = JSON.parse(stored) as Record<string, unknown>;
    return Object.fromEntries(
      Object.entries(value).flatMap(([host, addresses]) =>
        Array.isArray(addresses) && addresses.every((one) => typeof one === 'string')
          ? [[host, addresses as string[]]]
          : [],
      ),
    );
  } catch {
    return {};
  }
}
