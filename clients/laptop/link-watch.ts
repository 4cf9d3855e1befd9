import { spawn } from 'node:child_process';
import type { Log } from '../../src/telemetry/log.ts';
import { ipJson } from './ip-command.ts';
import type { AccessLink } from './link-choice.ts';

export interface LinkWatchOptions {
  /** Whether an interface may be an access link. */
  readonly isAccess: (name: string) => boolean;
  /** Take only interfaces with a default route. */
  readonly needsDefaultRoute: boolean;
  /** Called with the links that can carry a tunnel now, at the start and after each change. */
  readonly onChange: (links: readonly AccessLink[]) => void;
  readonly log: Log;
}

const RESTART_AFTER_MS = 1_000;
/** The metric of a link that no default route leads over. */
const NO_ROUTE_METRIC = 0xffff_ffff;

/** Watches the machine's interfaces, addresses and routes. Returns how to stop. */
export async function watchAccessLinks(options: LinkWatchOptions): Promise<() => void> {
  let stopped = false;
  let reading = false;
  let again = false;
  let last = '';

  const look = async (): Promise<void> => {
    if (reading) {
      again = true;
      return;
    }
    reading = true;
    do {
      again = false;
      try {
        const links = await readAccessLinks(options);
        const text = JSON.stringify(links);
        if (stopped) return;
        if (text !== last) {
          last = text;
          options.onChange(links);
        }
      } catch (error) {
        options.log.warn({ error: (error as Error).message }, 'cannot read the interfaces now');
      }
    } while (again);
    reading = false;
  };

  let monitor = startMonitor();
  function startMonitor() {
    const child = spawn('ip', ['-o', 'monitor', 'link', 'address', 'route'], {
      stdio: ['ignore', 'pipe', 'ignore'],
    });
    child.stdout.on('data', () => void look());
    child.on('error', (error) => options.log.error({ error: error.message }, 'cannot watch the interfaces'));
    child.on('close', () => {
      if (stopped) return;
      setTimeout(() => {
        if (stopped) return;
        monitor = startMonitor();
        void look();
      }, RESTART_AFTER_MS);
    });
    return child;
  }

  await look();
  return () => {
    stopped = true;
    monitor.kill();
  };
}

interface ShownInterface {
  readonly ifindex: number;
  readonly ifname: string;
  readonly flags: readonly string[];
  readonly addr_info: readonly {
    readonly local: string;
    readonly scope: string;
    readonly tentative?: boolean;
  }[];
}

interface ShownRoute {
  readonly dst: string;
  readonly dev?: string;
  readonly metric?: number;
  readonly flags?: readonly string[];
}

async function readAccessLinks(
  options: Pick<LinkWatchOptions, 'isAccess' | 'needsDefaultRoute'>,
): Promise<readonly AccessLink[]> {
  const [interfaces, v4, v6] = await Promise.all([
    ipJson<ShownInterface>('address', 'show'),
    ipJson<ShownRoute>('-4', 'route', 'show', 'default'),
    ipJson<ShownRoute>('-6', 'route', 'show', 'default'),
  ]);
  const metrics = new Map<string, number>();
  for (const { dev, metric, flags } of [...v4, ...v6]) {
    if (dev === undefined || flags?.includes('linkdown')) continue;
    metrics.set(dev, Math.min(metrics.get(dev) ?? NO_ROUTE_METRIC, metric ?? 0));
  }
  return interfaces.flatMap(({ ifname, ifindex, flags, addr_info: info }) => {
    if (!options.isAccess(ifname) || flags.includes('LOOPBACK')) return [];
    if (!flags.includes('UP') || !flags.includes('LOWER_UP')) return [];
    const metric = metrics.get(ifname);
    if (metric === undefined && options.needsDefaultRoute) return [];
    const addresses = info
      .filter(({ scope, tentative }) => scope === 'global' && tentative !== true)
      .map(({ local }) => local);
    if (addresses.length === 0) return [];
    return [{ id: ifname, ifindex, addresses, metric: metric ?? NO_ROUTE_METRIC }];
  });
}
