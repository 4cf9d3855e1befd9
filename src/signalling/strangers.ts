import { formatAddress, parseAddress } from '../protocol/address.ts';

/** Counts the connections of each address that have not said who they are. */
export interface Strangers {
  /** Admits one more connection of `address`; null when there are too many. The function returned ends its count. */
  admit(address: string): (() => void) | null;
}

/** An IPv6 subscriber has a /64 at least: all of it counts as one address. */
export function createStrangers(limit: number): Strangers {
  const counts = new Map<string, number>();
  return {
    admit(address) {
      const key = subscriber(address);
      const count = counts.get(key) ?? 0;
      if (count >= limit) return null;
      counts.set(key, count + 1);
      let counted = true;
      return () => {
        if (!counted) return;
        counted = false;
        const left = (counts.get(key) ?? 1) - 1;
        if (left === 0) counts.delete(key);
        else counts.set(key, left);
      };
    },
  };
}

function subscriber(address: string): string {
  const bytes = parseAddress(address.split('%')[0] ?? '');
  return formatAddress(bytes.length === 16 ? bytes.fill(0, 8) : bytes);
}
