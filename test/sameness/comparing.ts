import type { SessionState } from '../../src/protocol/relay-plane.ts';
import { peekIndex } from '../../src/tunnel/control.ts';
import { ANCHORS, ROLES } from './cast.ts';
import { hex, type StoryDevice } from './device.ts';
import type { Step, Story } from './story.ts';
import type { Output, Subject } from './subject.ts';

/** Two subjects did not do the same. */
export class Difference extends Error {}

/** One subject and its own copy of every device: what they say to each other is sealed for the two. */
export interface Party {
  readonly subject: Subject;
  readonly devices: (StoryDevice | null)[];
}

/** Throws a {@link Difference} unless every subject has what the first has; `what` says of what. */
export function requireSame(
  what: string,
  subjects: readonly { readonly name: string; readonly found: unknown }[],
): void {
  const [leader, ...others] = subjects.map(({ name, found }) => ({ name, words: JSON.stringify(found) }));
  if (leader === undefined) return;
  for (const { name, words } of others) {
    if (words !== leader.words)
      throw new Difference(`${what}\n${leader.name}: ${leader.words}\n${name}: ${words}`);
  }
}

/** What left a subject, in order for each device and for the public side: what goes to one of them does not wait for the others. */
export function leftByReceiver(
  party: Party,
  outputs: readonly Output[],
  nowMs: number,
  { ignoreNotices }: { readonly ignoreNotices: boolean },
): [to: string, words: string[]][] {
  const left = new Map<string, string[]>();
  for (const output of outputs) {
    const [to, words] = wordsOf(party, output, nowMs);
    if (ignoreNotices && words.includes(': notice ')) continue;
    left.set(to, [...(left.get(to) ?? []), words]);
  }
  return [...left].sort(([a], [b]) => (a < b ? -1 : 1));
}

function wordsOf({ devices }: Party, output: Output, nowMs: number): readonly [to: string, words: string] {
  if (output.to === 'network') return ['network', hex(output.octets)];
  const { endpoint, path, octets, outerClass } = output;
  const anchor = ANCHORS.find(({ endpoints }) => (endpoints as readonly string[]).includes(endpoint))?.id;
  const index = peekIndex(octets, 0, octets.length);
  const role = ROLES.findIndex((one) => one.anchor === anchor && one.index === index);
  const read = devices[role]?.read(octets, path, endpoint, nowMs) ?? 'nobody';
  return [ROLES[role]?.name ?? '?', `${endpoint} → ${path} class ${outerClass}: ${read}`];
}

/** What a subject has counted, where the story lets all count the same. */
export function counted({ uplink, downlink }: ReturnType<Subject['counters']>, { steps }: Story) {
  const isRead = steps.some(isTooLongForXdp) ? refusalsTogether : sorted;
  return { uplink: isRead(uplink), downlink: sorted(downlink) };
}

/** A session's state as it must be in every subject: lanes are numbered by whoever sends. */
export function comparable(state: SessionState): unknown {
  const { data, control, ...rest } = state;
  const { epoch, relayBoot, keyNumber } = data;
  return { ...rest, epoch, relayBoot, keyNumber, windows: [0, 1].map((lane) => trimmed(data.windows[lane])) };
}

function trimmed(window: SessionState['data']['windows'][number] | undefined) {
  return window === undefined || window.highest === 0 ? null : window;
}

function sorted(counts: Readonly<Record<string, number>>): [string, number][] {
  return Object.entries(counts)
    .filter(([, count]) => count > 0)
    .sort(([a], [b]) => (a < b ? -1 : 1));
}

/** XDP does not look into packets so long, and so does not know their numbers. */
function isTooLongForXdp(step: Step): boolean {
  return step.do === 'up' && step.packet.size > 1_400;
}

/** A forged datagram under the number of one that XDP did not look into is refused for its number by one alone. */
function refusalsTogether(counts: Readonly<Record<string, number>>): [string, number][] {
  const { replayed = 0, 'bad-tag': badTag = 0, ...others } = counts;
  return sorted({ ...others, 'replayed or bad-tag': replayed + badTag });
}
