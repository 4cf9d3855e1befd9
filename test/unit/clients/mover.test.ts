import { pino } from 'pino';
import { describe, expect, test } from 'vitest';
import { type AccessLink, chooseLink, matchesGlob } from '../../../clients/laptop/link-choice.ts';
import { Mover } from '../../../clients/laptop/mover.ts';
import { type Nat64Prefix, prefixesIn, WELL_KNOWN } from '../../../clients/laptop/nat64.ts';
import type { ToPacketWorker } from '../../../clients/laptop/packet-messages.ts';
import { socketAddress } from '../../../src/protocol/address.ts';
import { ManualTimers } from './manual-timers.ts';

const wifi: AccessLink = { id: 'wlan0', ifindex: 3, addresses: ['192.168.1.7'], metric: 600 };
const cell: AccessLink = { id: 'wwan0', ifindex: 4, addresses: ['10.4.4.4'], metric: 700 };

function setUp(order: readonly string[] = ['*'], translator: () => Nat64Prefix | null = () => null) {
  const posted: ToPacketWorker[] = [];
  const timers = new ManualTimers();
  let packets = 0;
  const mover = new Mover({
    order,
    endpoints: [socketAddress('198.51.100.1', 4556)],
    translator,
    post: (message) => posted.push(message),
    timers,
    wallMs: () => 0,
    log: pino({ level: 'silent' }),
    onChange: () => {},
  });
  const said = () =>
    posted
      .splice(0)
      .filter((message) => message.op !== 'probe')
      .map((message) =>
        message.op === 'use'
          ? `use ${message.link.id} ${message.oldPath}`
          : message.op === 'link-gone'
            ? `gone ${message.id}`
            : message.op,
      );
  const bound = (link: string, generation = 1) =>
    mover.sessionEvent({ type: 'bound', link, generation, observed: null, rttMs: 20, tookMs: 41 });
  /** Time passes, with packets on their way; the relay answers probes over these links after so long, and moves at once. */
  const live = (ms: number, answering: Readonly<Record<string, number>>): void => {
    for (let passed = 0; passed < ms; passed += 100) {
      const before = posted.length;
      timers.advance(100);
      for (const message of posted.slice(before)) {
        if (message.op === 'use') bound(message.link.id, 2);
        const rttMs = message.op === 'probe' ? answering[message.link.id] : undefined;
        if (message.op !== 'probe' || rttMs === undefined) continue;
        packets += 1;
        mover.sessionEvent({ type: 'answered', link: message.link.id, id: message.id, rttMs, packets });
      }
    }
  };
  return { mover, timers, posted, said, bound, live };
}

describe('which link is used', () => {
  const choosing = {
    ...{ order: ['*'], wanted: null, current: null },
    ...{ avoided: new Set<string>(), poor: new Set<string>() },
  };

  test('the lower metric wins, the order of the globs goes before it, a wish before both', () => {
    expect(chooseLink([cell, wifi], choosing)?.id).toBe('wlan0');
    expect(chooseLink([cell, wifi], { ...choosing, order: ['wwan*', '*'] })?.id).toBe('wwan0');
    expect(chooseLink([cell, wifi], { ...choosing, wanted: 'wwan0' })?.id).toBe('wwan0');
  });

  test('between equals the link in use stays', () => {
    const twin = { ...wifi, id: 'eth0', ifindex: 2 };
    expect(chooseLink([twin, wifi], { ...choosing, current: 'wlan0' })?.id).toBe('wlan0');
  });

  test('a link that does not answer is the last resort, and no glob means never', () => {
    expect(chooseLink([cell, wifi], { ...choosing, avoided: new Set(['wlan0']) })?.id).toBe('wwan0');
    expect(chooseLink([wifi], { ...choosing, avoided: new Set(['wlan0']) })?.id).toBe('wlan0');
    expect(chooseLink([wifi], { ...choosing, order: ['eth*'] })).toBeNull();
  });

  test('a dot in a glob is a dot', () => {
    expect(matchesGlob('eth0.*', 'eth0.7')).toBe(true);
    expect(matchesGlob('eth0.*', 'eth0x7')).toBe(false);
    expect(matchesGlob('wlan?', 'wlan10')).toBe(false);
  });
});

describe('moving', () => {
  test('the first path of a life says nothing about where we were before', () => {
    const { mover, said } = setUp();
    mover.update([wifi]);
    expect(said()).toEqual(['use wlan0 unknown']);
    expect(mover.state).toBe('binding');
  });

  test('a better link appears: the old path is alive', () => {
    const { mover, said, bound } = setUp();
    mover.update([cell]);
    bound('wwan0');
    said();
    mover.update([cell, wifi]);
    expect(said()).toEqual(['use wlan0 alive']);
  });

  test('the link in use disappears while another one is up: the old path is dead', () => {
    const { mover, said, bound } = setUp();
    mover.update([wifi, cell]);
    bound('wlan0');
    said();
    mover.update([cell]);
    expect(said()).toEqual(['gone wlan0', 'use wwan0 dead']);
  });

  test('nothing is left, then a link comes: the old path is dead', () => {
    const { mover, said, bound } = setUp();
    mover.update([wifi]);
    bound('wlan0');
    said();
    mover.update([]);
    expect(said()).toEqual(['gone wlan0']);
    expect(mover.state).toBe('offline');
    mover.update([cell]);
    expect(said()).toEqual(['use wwan0 dead']);
  });

  test('the same interface in another network is a move away from a dead path', () => {
    const { mover, said, bound } = setUp();
    mover.update([wifi]);
    bound('wlan0');
    said();
    mover.update([{ ...wifi, addresses: ['172.16.0.9'] }]);
    expect(said()).toEqual(['use wlan0 dead']);
  });

  test('an interface of the same name that is another one gets a socket of its own', () => {
    const { mover, said, bound } = setUp();
    mover.update([wifi]);
    bound('wlan0');
    said();
    mover.update([{ ...wifi, ifindex: 9 }]);
    expect(said()).toEqual(['gone wlan0', 'use wlan0 dead']);
  });

  test('the old path dies while the new one is being proven: the session is told, and goes on with the new one', () => {
    const { mover, said, bound } = setUp();
    mover.update([cell]);
    bound('wwan0');
    mover.update([cell, wifi]);
    said();
    mover.update([wifi]);
    expect(said()).toEqual(['gone wwan0']);
  });

  test('a change elsewhere changes nothing', () => {
    const { mover, said, bound } = setUp();
    mover.update([wifi]);
    bound('wlan0');
    said();
    mover.update([wifi, cell]);
    mover.update([wifi]);
    // The socket to measure it by.
    expect(said()).toEqual(['gone wwan0']);
  });

  test('a wish moves by make-before-break, is answered when the relay sends there, and ends with null', async () => {
    const { mover, said, bound } = setUp();
    mover.update([wifi, cell]);
    bound('wlan0', 1);
    said();
    const moved = mover.use('wwan0');
    expect(said()).toEqual(['use wwan0 alive']);
    bound('wwan0', 2);
    expect(await moved).toMatchObject({ from: 'wlan0', to: 'wwan0', bound: { generation: 2, tookMs: 41 } });
    await mover.use(null);
    expect(said()).toEqual(['use wlan0 alive']);
  });

  test('a wish for a link that is not there names those that are', async () => {
    const { mover } = setUp();
    mover.update([wifi]);
    await expect(mover.use('wwan0')).rejects.toThrow(/wwan0 has no address .* usable: wlan0/);
  });

  test('a link that stays unanswered is left for another one, and tried again later', () => {
    const { mover, timers, said, bound } = setUp();
    mover.update([wifi, cell]);
    said();
    timers.advance(3_000);
    expect(said()).toEqual(['use wwan0 unknown']);
    bound('wwan0');
    timers.advance(30_000);
    expect(said()).toEqual(['use wlan0 alive']);
  });

  test('a machine that was suspended asks for its path anew at once, and does not know what became of it', () => {
    const { mover, said, bound } = setUp();
    mover.update([wifi]);
    bound('wlan0');
    said();
    mover.woke();
    expect(said()).toEqual(['use wlan0 unknown']);
    expect(mover.state).toBe('binding');
    mover.update([]);
    said();
    mover.woke();
    expect(said()).toEqual([]);
  });

  test('alone, an unanswered link stays in use', () => {
    const { mover, timers, said } = setUp();
    mover.update([wifi]);
    said();
    timers.advance(60_000);
    expect(said()).toEqual([]);
    expect(mover.state).toBe('binding');
  });

  test('a link without an address of the tunnel’s family is no link', () => {
    const { mover, said } = setUp();
    mover.update([{ ...wifi, addresses: ['2001:db8::7'] }]);
    expect(said()).toEqual([]);
  });

  test('from a network without IPv4 a relay with IPv4 only is reached through the translator', () => {
    let translator: Nat64Prefix | null = null;
    const { mover, posted, said } = setUp(['*'], () => translator);
    const ipv6Only = { ...wifi, addresses: ['2001:db8::7'] };
    const endpoint = () => posted.map((message) => message.op === 'use' && message.link.endpoint.key);
    mover.update([ipv6Only]);
    expect(said()).toEqual([]);
    translator = WELL_KNOWN;
    mover.update([ipv6Only]);
    expect(endpoint()).toEqual(['64:ff9b::c633:6401|4556']);
    mover.sessionEvent({
      type: 'bound',
      link: 'wlan0',
      generation: 1,
      observed: null,
      rttMs: 20,
      tookMs: 41,
    });
    said();
    [translator] = prefixesIn(['2001:db8:122:344::c000:aa']) as [Nat64Prefix];
    mover.update([ipv6Only]);
    expect(endpoint()).toEqual(['2001:db8:122:344::c633:6401|4556']);
    expect(said()).toEqual(['use wlan0 dead']);
  });

  test('a packet worker that began anew is told the link again', () => {
    const { mover, said, bound } = setUp();
    mover.update([wifi]);
    bound('wlan0');
    said();
    mover.restarted();
    expect(said()).toEqual(['use wlan0 dead']);
  });
});

describe('two networks at once', () => {
  function onWifi() {
    const agent = setUp();
    agent.mover.update([wifi, cell]);
    agent.bound('wlan0');
    agent.said();
    return agent;
  }

  test('both are measured, and the preferred one is kept though the other is somewhat better', () => {
    const { mover, said, live } = onWifi();
    live(20_000, { wlan0: 60, wwan0: 40 });
    expect(said()).toEqual([]);
    expect(mover.links.map(({ measured }) => measured)).toEqual([
      { rttMs: 60, lossPercent: 0 },
      { rttMs: 40, lossPercent: 0 },
    ]);
  });

  test('one that gets much worse is left by make-before-break, and not gone back to until it has been good for long', () => {
    const { mover, said, live } = onWifi();
    live(10_000, { wlan0: 20, wwan0: 40 });
    live(10_000, { wlan0: 600, wwan0: 40 });
    expect(said()).toEqual(['use wwan0 alive']);
    live(60_000, { wlan0: 150, wwan0: 40 });
    expect(said()).toEqual([]);
    expect(mover.links.map(({ passedOver }) => passedOver)).toEqual([true, false]);
    live(8_000, { wlan0: 20, wwan0: 40 });
    expect(said()).toEqual([]);
    live(8_000, { wlan0: 20, wwan0: 40 });
    expect(said()).toEqual(['use wlan0 alive']);
  });

  test('one that is wanted is kept, however bad', () => {
    const { mover, said, live } = onWifi();
    void mover.use('wlan0');
    live(20_000, { wlan0: 900, wwan0: 10 });
    expect(said()).toEqual([]);
  });

  test('a silent path is left at once for one that answers, and waited for without one', () => {
    const answering = onWifi();
    answering.live(5_000, { wlan0: 20, wwan0: 40 });
    answering.mover.sessionEvent({ type: 'lost', reason: 'unanswered' });
    expect(answering.said()).toEqual(['use wwan0 unknown']);

    const both = onWifi();
    both.live(5_000, { wlan0: 20, wwan0: 40 });
    both.live(2_000, {});
    both.mover.sessionEvent({ type: 'lost', reason: 'unanswered' });
    expect(both.said()).toEqual([]);
  });

  test('what was measured of a network says nothing of the next one on the same interface', () => {
    const { mover, live } = onWifi();
    live(5_000, { wlan0: 20, wwan0: 40 });
    mover.update([wifi, { ...cell, addresses: ['10.9.9.9'] }]);
    expect(mover.links.map(({ measured }) => measured?.rttMs)).toEqual([20, undefined]);
  });

  test('with one network there is nothing to choose, and nothing is sent for it', () => {
    const { mover, timers, bound } = setUp();
    mover.update([wifi]);
    bound('wlan0');
    expect(timers.waits).toEqual([]);
  });
});
