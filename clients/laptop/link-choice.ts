/** An access interface as the agent judges it. */
export interface AccessLink {
  /** Interface name. */
  readonly id: string;
  readonly ifindex: number;
  /** Addresses on it, canonical text: a change of them is a change of network. */
  readonly addresses: readonly string[];
  /** Metric of its best default route. */
  readonly metric: number;
}

export interface Choosing {
  /** Globs in order of preference. */
  readonly order: readonly string[];
  /** What the user asked for: taken whenever it is there. */
  readonly wanted: string | null;
  /** Links that did not answer lately: taken only when there is nothing else. */
  readonly avoided: ReadonlySet<string>;
  /** Links that are measured to be so much worse than another one that they are passed over, unless wanted. */
  readonly poor: ReadonlySet<string>;
  /** The link in use: wins a tie. */
  readonly current: string | null;
}

/**
 * The link to use: wanted, then none that is poor, then by order of the globs, then by the routes' metric. Null when none
 * matches.
 */
export function chooseLink(links: readonly AccessLink[], choosing: Choosing): AccessLink | null {
  const ranked = links
    .map((link) => ({ link, rank: rankOf(link, choosing) }))
    .filter(({ rank }) => rank !== null)
    .sort((one, other) => compare(one.rank!, other.rank!));
  return ranked[0]?.link ?? null;
}

function rankOf(link: AccessLink, choosing: Choosing): readonly number[] | null {
  const glob = choosing.order.findIndex((pattern) => matchesGlob(pattern, link.id));
  const wanted = link.id === choosing.wanted;
  if (glob < 0 && !wanted) return null;
  return [
    choosing.avoided.has(link.id) ? 1 : 0,
    wanted ? 0 : 1,
    choosing.poor.has(link.id) ? 1 : 0,
    glob,
    link.metric,
    link.id === choosing.current ? 0 : 1,
    link.ifindex,
  ];
}

function compare(one: readonly number[], other: readonly number[]): number {
  for (const [i, value] of one.entries()) {
    const difference = value - (other[i] ?? 0);
    if (difference !== 0) return difference;
  }
  return 0;
}

/** True when `name` matches a glob of `*` and `?`. */
export function matchesGlob(pattern: string, name: string): boolean {
  const source = pattern
    .replace(/[.+^${}()|[\]\\]/g, '\\$&')
    .replaceAll('*', '.*')
    .replaceAll('?', '.');
  return new RegExp(`^${source}$`, 'u').test(name);
}
