import { ensureAddress, removeAddress } from '../linux/addresses.ts';
import { type Announcements, openAnnouncements } from '../linux/announce.ts';
import { ensureNeighbourProxy, removeNeighbour, removeNeighbourProxy } from '../linux/neighbours.ts';
import { withNetlink } from '../linux/netlink.ts';
import { ensureRoute, removeRoute } from '../linux/routes.ts';
import { writeSysctl } from '../linux/sysctl.ts';
import { formatAddress, type Prefix, parsePrefix } from '../protocol/address.ts';
import type { Log } from '../telemetry/log.ts';

/** Metric of the blackhole under the routes into the TUN device: reached only while that device is gone. */
const BLACKHOLE_METRIC = 4_294_967_294;
/** Single addresses answered for by neighbour proxies; a larger prefix has to be routed here. */
const MAX_PROXIED = 4_096;

/** Nobody acknowledges an announcement, so it is said again, milliseconds later: the first time within a takeover's second. */
const REPEAT_AFTER_MS = [200, 1_000, 3_000];
/** Leased addresses announced in one turn: a bridge may carry each to every neighbour before the call returns. */
const ANNOUNCED_A_TURN = 64;

export interface Announced {
  readonly endpoints: readonly string[];
  readonly prefixes: readonly string[];
}

/**
 * Makes the network deliver an anchor's addresses to this relay: tunnel endpoints as addresses of the public
 * interface; leased prefixes as routes into the TUN device, never as local addresses, so that this kernel never
 * answers for them, with a blackhole beneath. Everything is idempotent, and stays when the process is killed.
 */
export interface Announcer {
  /** Sets what forwarding needs; ERR_MOORING_SYSCTL where it may not. */
  prepare(): void;
  announce(anchor: Announced): void;
  /**
   * What still arrives then waits in this kernel's neighbour queue and goes on to whoever announces the addresses
   * next: so it forgets who had them before. `silently`: nobody is expected to, and what arrives is dropped; it would be
   * answered as unreachable when nobody came.
   */
  withdraw(anchor: Announced, silently?: boolean): void;
}

export function createAnnouncer(options: {
  readonly interface: string;
  readonly tun: string;
  readonly announce: 'neighbour' | 'routed';
  readonly log: Log;
}): Announcer {
  const { interface: device, tun, log } = options;
  /** How to call off what is still to be said, by tunnel endpoints, which name an anchor. */
  const saying = new Map<string, () => void>();
  let announcements: Announcements | undefined;
  const proxied = (anchor: Announced) =>
    options.announce === 'neighbour' ? anchor.prefixes.flatMap((text) => singleAddresses(text, log)) : [];

  /** False: it could not, which is logged; an interface that is down must not keep the anchor from being served. */
  function say(addresses: readonly string[]): boolean {
    try {
      announcements ??= openAnnouncements();
      announcements.announce(device, addresses);
      return true;
    } catch (error) {
      log.warn({ error: (error as Error).message }, 'addresses not announced');
      return false;
    }
  }

  /** Announces them all, a few in each turn, and again later. Returns how to call that off. */
  function sayAgain(addresses: readonly string[]): () => void {
    let isOver = false;
    const sayFrom = (from: number): void => {
      if (isOver || from >= addresses.length) return;
      if (say(addresses.slice(from, from + ANNOUNCED_A_TURN))) setImmediate(sayFrom, from + ANNOUNCED_A_TURN);
    };
    setImmediate(sayFrom, 0);
    const repeats = REPEAT_AFTER_MS.map((ms) => setTimeout(sayFrom, ms, 0).unref());
    return () => {
      isOver = true;
      for (const timer of repeats) clearTimeout(timer);
    };
  }

  return {
    prepare() {
      writeSysctl('net/ipv4/ip_forward', '1');
      writeSysctl(`net/ipv4/conf/${device}/rp_filter`, '0');
      writeSysctl('net/ipv4/conf/all/rp_filter', '0');
      writeSysctl(`net/ipv4/conf/${tun}/rp_filter`, '0');
      // From one device to another a packet leaves by the TUN device that it came from, which is as it should be.
      for (const where of ['all', device, tun]) writeSysctl(`net/ipv4/conf/${where}/send_redirects`, '0');
      // Linux delays answers for others by up to 0.8 s: a take-over would wait for it.
      writeSysctl(`net/ipv4/neigh/${device}/proxy_delay`, '0');
      try {
        writeSysctl('net/ipv6/conf/all/forwarding', '1');
        writeSysctl(`net/ipv6/conf/${device}/proxy_ndp`, '1');
        writeSysctl(`net/ipv6/neigh/${device}/proxy_delay`, '0');
      } catch (error) {
        log.warn({ error: (error as Error).message }, 'IPv6 is not forwarded here');
      }
    },

    announce(anchor) {
      for (const endpoint of anchor.endpoints) {
        ensureAddress(device, hostPrefix(endpoint));
        removeRoute(blackhole(endpoint));
      }
      // Before all else: with what devices send to it their sessions begin.
      if (options.announce === 'neighbour') say(anchor.endpoints);
      withNetlink((netlink) => {
        for (const prefix of anchor.prefixes) {
          ensureRoute({ destination: prefix, kind: 'blackhole', metric: BLACKHOLE_METRIC }, netlink);
          ensureRoute({ destination: prefix, device: tun }, netlink);
        }
        for (const address of proxied(anchor)) ensureNeighbourProxy(device, address, netlink);
      });
      if (options.announce === 'routed') return;
      saying.get(anchor.endpoints.join())?.();
      saying.set(anchor.endpoints.join(), sayAgain([...anchor.endpoints, ...proxied(anchor)]));
    },

    withdraw(anchor, silently = false) {
      saying.get(anchor.endpoints.join())?.();
      saying.delete(anchor.endpoints.join());
      withNetlink((netlink) => {
        const proxies = proxied(anchor);
        for (const address of [...anchor.endpoints, ...proxies]) removeNeighbour(device, address, netlink);
        for (const endpoint of anchor.endpoints) {
          if (silently) ensureRoute(blackhole(endpoint), netlink);
          else removeRoute(blackhole(endpoint), netlink);
          removeAddress(device, hostPrefix(endpoint));
        }
        for (const address of proxies) removeNeighbourProxy(device, address, netlink);
        for (const prefix of anchor.prefixes) {
          removeRoute({ destination: prefix, device: tun }, netlink);
          removeRoute({ destination: prefix, kind: 'blackhole', metric: BLACKHOLE_METRIC }, netlink);
        }
      });
    },
  };
}

/** Under a tunnel endpoint that is nobody's here: longer than the segment's own route. */
function blackhole(endpoint: string) {
  return { destination: hostPrefix(endpoint), kind: 'blackhole', metric: BLACKHOLE_METRIC } as const;
}

function hostPrefix(address: string): string {
  return `${address}/${address.includes(':') ? 128 : 32}`;
}

function singleAddresses(text: string, log: Log): string[] {
  const prefix = parsePrefix(text);
  const free = prefix.bytes.length * 8 - prefix.bits;
  if (2 ** free > MAX_PROXIED) {
    log.warn({ prefix: text }, `more than ${MAX_PROXIED} addresses: route the prefix to this relay`);
    return [];
  }
  return Array.from({ length: 2 ** free }, (_, i) => addressAt(prefix, i));
}

function addressAt(prefix: Prefix, offset: number): string {
  const bytes = Uint8Array.from(prefix.bytes);
  const view = new DataView(bytes.buffer);
  const at = bytes.length - 4;
  view.setUint32(at, view.getUint32(at) + offset);
  return formatAddress(bytes);
}
