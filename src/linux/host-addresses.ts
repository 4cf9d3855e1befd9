import { listAddresses } from './addresses.ts';
import { withNetlink } from './netlink.ts';
import { LOCAL_TABLE, listRoutes, type RouteKind } from './routes.ts';

/** Kinds of route by which a packet ends at this host. */
const ENDS_HERE: ReadonlySet<RouteKind> = new Set(['local', 'broadcast', 'anycast']);

/**
 * Every single address at which this host takes packets for itself, canonical text: its own, the broadcast addresses
 * of its links, the anycast addresses of a router. Prefixes that it takes whole (127.0.0.0/8) are not among them.
 */
export function hostAddresses(): string[] {
  return withNetlink((netlink) => {
    const found = new Set(listAddresses(undefined, netlink).map(({ address }) => address));
    for (const { kind, destination, family } of listRoutes({ table: LOCAL_TABLE }, netlink)) {
      const [address = '', bits] = destination.split('/');
      if (ENDS_HERE.has(kind) && Number(bits) === (family === 4 ? 32 : 128)) found.add(address);
    }
    return [...found];
  });
}
