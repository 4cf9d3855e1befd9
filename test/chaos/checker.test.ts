import { describe, expect, test } from 'vitest';
import { check, type Rule } from './checker.ts';
import type { Entry, LeaseFacts, Operation } from './history.ts';

const TERMS = { coolingMs: 2_000, lateMs: 100, outageLateMs: 60_000 };
const ANCHOR = 'a1';

/** A small history in which everything is right, told in the order of its instants. */
class Story {
  readonly entries: Entry[] = [];
  private counter = 0;

  starts(atMs: number, relay: string, boot = `${relay}-1`): this {
    return this.add({ type: 'started', atMs, relay, boot });
  }
  serves(atMs: number, relay: string, epoch: number, untilMs: number, boot = `${relay}-1`): this {
    return this.add({ type: 'serves', atMs, relay, boot, anchor: ANCHOR, epoch: String(epoch), untilMs });
  }
  deadline(atMs: number, relay: string, untilMs: number, boot = `${relay}-1`): this {
    return this.add({ type: 'deadline', atMs, relay, boot, anchor: ANCHOR, untilMs });
  }
  stops(atMs: number, relay: string, boot = `${relay}-1`): this {
    return this.add({ type: 'stops', atMs, relay, boot, anchor: ANCHOR });
  }
  installs(atMs: number, relay: string, lease: string, resource: string, untilMs: number): this {
    const boot = `${relay}-1`;
    return this.add({
      ...{ type: 'installs', atMs, relay, boot, anchor: ANCHOR, lease, resources: [resource], untilMs },
    });
  }
  uninstalls(atMs: number, relay: string, lease: string): this {
    return this.add({ type: 'uninstalls', atMs, relay, boot: `${relay}-1`, anchor: ANCHOR, lease });
  }
  /** Asked 10 ms before it is answered. */
  done(
    atMs: number,
    op: Operation['op'],
    device: string,
    lease: string,
    resource: string,
    fence?: string,
  ): this {
    return this.add({
      ...{ type: 'operation', op, device, askedMs: atMs - 10, atMs, outcome: 'done', leaseMs: 60_000 },
      lease: this.facts(device, lease, resource, fence),
    });
  }
  refused(
    atMs: number,
    op: Operation['op'],
    device: string,
    lease: string,
    resource: string,
    code: string,
  ): this {
    return this.add({
      ...{
        type: 'operation',
        op,
        device,
        askedMs: atMs - 10,
        atMs,
        outcome: 'refused',
        code,
        leaseMs: 60_000,
      },
      lease: this.facts(device, lease, resource, '0-0'),
    });
  }
  held(atMs: number, ...leases: LeaseFacts[]): this {
    return this.add({ type: 'held', atMs, anchor: ANCHOR, leases });
  }
  facts(device: string, lease: string, resource: string, fence?: string): LeaseFacts {
    this.counter += 1;
    const given = fence ?? `1-${this.counter}`;
    return { id: lease, anchor: ANCHOR, device, resources: [resource], fence: given, remainingMs: 60_000 };
  }
  add(entry: Entry): this {
    this.entries.push(entry);
    return this;
  }
  broken(): Rule[] {
    const sorted = [...this.entries].sort((a, b) => a.atMs - b.atMs);
    return [...new Set(check(sorted, TERMS).violations.map(({ rule }) => rule))];
  }
}

/** r1 serves, then r2 takes over; a lease is granted, extended and freed, and its resource goes to another later. */
function goodStory(): Story {
  const story = new Story();
  return story
    .starts(0, 'r1')
    .starts(0, 'r2')
    .serves(100, 'r1', 1, 600)
    .deadline(300, 'r1', 1_000)
    .installs(390, 'r1', 'l1', '192.0.2.1', 60_000)
    .done(400, 'lease', 'd1', 'l1', '192.0.2.1')
    .serves(1_001, 'r2', 2, 20_000)
    .installs(1_001, 'r2', 'l1', '192.0.2.1', 60_000)
    .done(2_000, 'extend', 'd1', 'l1', '192.0.2.1')
    .done(3_000, 'free', 'd1', 'l1', '192.0.2.1')
    .uninstalls(3_001, 'r2', 'l1')
    .installs(5_990, 'r2', 'l2', '192.0.2.1', 66_000)
    .done(6_000, 'lease', 'd2', 'l2', '192.0.2.1')
    .held(7_000, story.facts('d2', 'l2', '192.0.2.1'));
}

describe('the checker of histories', () => {
  test('finds nothing wrong with a take-over and a resource that changes hands', () => {
    expect(goodStory().broken()).toEqual([]);
    expect(check(goodStory().entries, TERMS).counts).toMatchObject({
      acknowledgedLeases: 2,
      forwardedIntervals: 2,
    });
  });

  test('lets a killed relay forward until its deadline, and not on after it', () => {
    const story = goodStory().add({ type: 'fault', atMs: 500, what: 'killed', where: 'r1' });
    expect(story.starts(1_500, 'r1', 'r1-2').broken()).toEqual([]);
  });

  test('lets a lease go that its device had not heard of, or had let go', () => {
    const story = goodStory()
      .add({
        ...{ type: 'operation', op: 'lease', device: 'd3', askedMs: 5_000, atMs: 5_500 },
        outcome: 'unknown',
      })
      .refused(8_000, 'extend', 'd1', 'l1', '192.0.2.1', 'ERR_MOORING_BAD_BIND');
    expect(story.broken()).toEqual([]);
  });

  test.each<[string, (story: Story) => unknown, Rule]>([
    [
      'a standby that claims before the owner has stopped',
      (story) => story.deadline(900, 'r1', 1_400),
      'an anchor is forwarded by one relay',
    ],
    [
      'an owner that comes back to life behind its deadline',
      (story) => story.deadline(1_500, 'r1', 1_900),
      'an anchor is forwarded by one relay',
    ],
    [
      'equal epochs',
      (story) => story.stops(4_000, 'r2').serves(4_000, 'r1', 2, 5_000),
      'an epoch is one incarnation’s',
    ],
    [
      'one address granted twice',
      (story) => story.done(2_500, 'lease', 'd9', 'l9', '192.0.2.1'),
      'a resource is held by one device',
    ],
    [
      'two leases of one address in a data path',
      (story) => story.installs(2_500, 'r2', 'l9', '192.0.2.1', 3_000),
      'a resource is forwarded for one lease',
    ],
    [
      'packets of a holder’s address that go to a former one, at a relay that has not heard of its end',
      (story) =>
        story
          .serves(6_100, 'r1', 3, 6_500)
          .stops(6_090, 'r2')
          .installs(6_100, 'r1', 'l1', '192.0.2.1', 60_000),
      'a resource that one holds is forwarded for no other',
    ],
    [
      'a fence of a lost history given again',
      (story) =>
        story.add({
          ...{
            type: 'event',
            atMs: 5_000,
            relay: 'r2',
            kind: 'granted',
            anchor: ANCHOR,
            fence: '1-1',
            lease: 'l7',
          },
          ...{ device: 'd7', resources: ['192.0.2.7'] },
        }),
      'a fence is given once',
    ],
    [
      'a counter that goes backwards',
      (story) => story.done(8_000, 'lease', 'd7', 'l7', '192.0.2.7', '9-2'),
      'fences never fall',
    ],
    [
      'an acknowledged lease that nobody knows',
      (story) => story.refused(7_500, 'extend', 'd2', 'l2', '192.0.2.1', 'ERR_MOORING_BAD_BIND'),
      'an acknowledged lease is kept',
    ],
    [
      'an acknowledged lease that is missing at the end',
      (story) => story.held(9_000),
      'an acknowledged lease is kept',
    ],
    [
      'an acknowledged lease that a relay is told has ended',
      (story) =>
        story.add({
          ...{
            type: 'event',
            atMs: 8_000,
            relay: 'r2',
            kind: 'ended',
            anchor: ANCHOR,
            fence: '2-90',
            lease: 'l2',
          },
          ...{ device: 'd2', resources: ['192.0.2.1'] },
        }),
      'an acknowledged lease is kept',
    ],
    [
      'a lease that is another device’s at the end',
      (story) => story.held(9_000, story.facts('d3', 'l2', '192.0.2.1')),
      'an acknowledged lease is kept',
    ],
    [
      'a lease forwarded past its end',
      (story) => story.installs(6_000, 'r2', 'l2', '192.0.2.1', 99_000).deadline(19_000, 'r2', 120_000),
      'nothing is forwarded past its end',
    ],
    [
      'a cooling shorter than it should be',
      (story) =>
        story.done(3_500, 'lease', 'd5', 'l5', '192.0.2.1').done(3_600, 'free', 'd5', 'l5', '192.0.2.1'),
      'a resource rests before another device has it',
    ],
    [
      'a failure that says nothing to its device',
      (story) =>
        story.refused(7_500, 'attach', 'd2', 'l2', '192.0.2.1', 'unnamed: TypeError: x is not a function'),
      'every failure has a name',
    ],
  ])('finds %s', (_, plant, rule) => {
    const story = goodStory();
    plant(story);
    expect(story.broken()).toContain(rule);
  });

  test('excuses the loss of what only a lost memory knew, and nothing else', () => {
    const lost = () => goodStory().refused(7_500, 'extend', 'd2', 'l2', '192.0.2.1', 'ERR_MOORING_BAD_BIND');
    const gone = (where: string) => ({ type: 'fault', atMs: 6_500, what: 'witness-lost', where }) as const;
    expect(lost().add(gone('r2')).broken()).not.toContain('an acknowledged lease is kept');
    expect(lost().add(gone('r1')).broken()).toContain('an acknowledged lease is kept');
  });
});
