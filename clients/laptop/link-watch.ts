import { type LinkState, watchLinks } from '../../src/linux/link-monitor.ts';
import { MAIN_TABLE } from '../../src/linux/routes.ts';
import type { Log } from '../../src/telemetry/log.ts';
import type { AccessLink } from './link-choice.ts';

export interface LinkWatchOptions {
  /** Whether an interface may be an access link. */
  readonly isAccess: (name: string) => boolean;
  /** Take only interfaces with a default route. */
  readonly needsDefaultRoute: boolean;
  /** Called with the links that can carry a tunnel now, at the start and after each change of them. */
  readonly onChange: (links: readonly AccessLink[]) => void;
  readonly log: Log;
}

/** The metric of a link that no default route leads over. */
const NO_ROUTE_METRIC = 0xffff_ffff;

/** Watches the machine's interfaces, addresses and default routes. Returns how to stop. */
export function watchAccessLinks(options: LinkWatchOptions): () => void {
  let last = '';
  const watch = watchLinks(
    ({ links }) => {
      const usable = links.flatMap((link) => accessLink(link, options));
      const text = JSON.stringify(usable);
      if (text === last) return;
      last = text;
      options.onChange(usable);
    },
    (error) => options.log.warn({ error: (error as Error).message }, 'cannot read the interfaces now'),
  );
  return () => watch.close();
}

/** The link as one or no access link: it needs a signal and an address that others can answer to. */
export function accessLink(
  {
    name,
    ifindex,
    up,
    carrier,
    loopback,
    addresses,
    gateways,
  }: Omit<LinkState, 'operstate' | 'mtu' | 'kind'>,
  options: Pick<LinkWatchOptions, 'isAccess' | 'needsDefaultRoute'>,
): AccessLink[] {
  if (!up || !carrier || loopback || !options.isAccess(name)) return [];
  const best = gateways.find(({ table }) => table === MAIN_TABLE);
  if (best === undefined && options.needsDefaultRoute) return [];
  const usable = addresses
    .filter((address) => address.usable && (address.scope === 'global' || address.scope === 'site'))
    .map(({ address }) => address);
  return usable.length === 0
    ? []
    : [{ id: name, ifindex, addresses: usable, metric: best?.metric ?? NO_ROUTE_METRIC }];
}
