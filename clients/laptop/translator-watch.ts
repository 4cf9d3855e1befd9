import type { AccessLink } from './link-choice.ts';
import { discoverNat64, type Nat64Prefix, prefixText, WELL_KNOWN } from './nat64.ts';

export interface TranslatorWatchOptions {
  /** The translator is another one now. */
  readonly onChange: () => void;
  readonly discover?: () => Promise<readonly Nat64Prefix[]>;
}

/** How IPv4 is reached where a network has none: its translator, asked for anew in each such network. */
export class TranslatorWatch {
  readonly #options: TranslatorWatchOptions;
  #network = '';
  #prefix: Nat64Prefix | null = null;
  #wasNamed = false;

  constructor(options: TranslatorWatchOptions) {
    this.#options = options;
  }

  /** Null: IPv4 needs none here. */
  get prefix(): Nat64Prefix | null {
    return this.#prefix;
  }

  /** Whether the network's resolver named it; else it is a guess. */
  get wasNamed(): boolean {
    return this.#wasNamed;
  }

  linksAre(links: readonly AccessLink[]): void {
    const network = JSON.stringify(links.filter(hasIpv6Only).map(({ id, addresses }) => [id, addresses]));
    if (network === this.#network) return;
    this.#network = network;
    if (!links.some(hasIpv6Only)) {
      this.#become(null, false);
      return;
    }
    // A resolver that cannot be asked (a kill switch, one behind the tunnel) does not keep us from the usual one.
    this.#become(WELL_KNOWN, false);
    const { discover = discoverNat64 } = this.#options;
    void discover().then(([found]) => {
      if (network === this.#network && found !== undefined) this.#become(found, true);
    });
  }

  #become(prefix: Nat64Prefix | null, wasNamed: boolean): void {
    const isSame = prefixText(prefix) === prefixText(this.#prefix);
    this.#prefix = prefix;
    this.#wasNamed = wasNamed;
    if (!isSame) this.#options.onChange();
  }
}

export function hasIpv6Only({ addresses }: AccessLink): boolean {
  return addresses.every((address) => address.includes(':'));
}
