import { describe, expect, test } from 'vitest';
import type { AccessLink } from '../../../clients/laptop/link-choice.ts';
import {
  type Nat64Prefix,
  prefixesIn,
  prefixText,
  synthesised,
  WELL_KNOWN,
} from '../../../clients/laptop/nat64.ts';
import { remarksOn } from '../../../clients/laptop/remarks.ts';
import { TranslatorWatch } from '../../../clients/laptop/translator-watch.ts';

/** RFC 6052 §2.4, table 1: prefix → 192.0.2.33 behind it. */
const TABLE: readonly (readonly [string, string])[] = [
  ['2001:db8::/32', '2001:db8:c000:221::'],
  ['2001:db8:100::/40', '2001:db8:1c0:2:21::'],
  ['2001:db8:122::/48', '2001:db8:122:c000:2:2100::'],
  ['2001:db8:122:300::/56', '2001:db8:122:3c0:0:221::'],
  ['2001:db8:122:344::/64', '2001:db8:122:344:c0:2:2100:0'],
  ['2001:db8:122:344::/96', '2001:db8:122:344::c000:221'],
  ['64:ff9b::/96', '64:ff9b::c000:221'],
];

/** What a resolver of such a network says of `ipv4only.arpa`: 192.0.0.170 and 192.0.0.171 behind its prefix. */
const ANSWERS: Readonly<Record<string, readonly string[]>> = {
  '2001:db8::/32': ['2001:db8:c000:aa::', '2001:db8:c000:ab::'],
  '2001:db8:100::/40': ['2001:db8:1c0:0:aa::', '2001:db8:1c0:0:ab::'],
  '2001:db8:122::/48': ['2001:db8:122:c000:0:aa00::', '2001:db8:122:c000:0:ab00::'],
  '2001:db8:122:300::/56': ['2001:db8:122:3c0:0:aa::', '2001:db8:122:3c0:0:ab::'],
  '2001:db8:122:344::/64': ['2001:db8:122:344:c0:0:aa00:0', '2001:db8:122:344:c0:0:ab00:0'],
  '2001:db8:122:344::/96': ['2001:db8:122:344::c000:aa', '2001:db8:122:344::c000:ab'],
  '64:ff9b::/96': ['64:ff9b::c000:aa', '64:ff9b::c000:ab'],
};

describe('IPv4 behind a translator (RFC 6052, RFC 7050)', () => {
  test.each(TABLE)(
    '%s is found in what the resolver says, and leads to 192.0.2.33 by %s',
    (prefix, address) => {
      const found = prefixesIn(ANSWERS[prefix]!);
      expect(found.map(prefixText)).toEqual([prefix]);
      expect(synthesised(found[0]!, '192.0.2.33')).toBe(address);
    },
  );

  test('an answer without one of the two addresses is no prefix', () => {
    expect(prefixesIn(['2001:db8::1', '::1', '192.0.0.170'])).toEqual([]);
  });
});

describe('the translator of the network that a device is in', () => {
  const wifi: AccessLink = { id: 'wlan0', ifindex: 3, addresses: ['192.168.1.7'], metric: 600 };
  const cell: AccessLink = { id: 'wwan0', ifindex: 4, addresses: ['2001:db8::7'], metric: 700 };
  const named = prefixesIn(['2001:db8:122:344::c000:aa']);

  function watch() {
    const answers: ((found: readonly Nat64Prefix[]) => void)[] = [];
    const seen: string[] = [];
    const translator: TranslatorWatch = new TranslatorWatch({
      discover: () => new Promise((resolve) => answers.push(resolve)),
      onChange: () => seen.push(prefixText(translator.prefix)),
    });
    const answer = async (found: readonly Nat64Prefix[]) => {
      answers.shift()!(found);
      await Promise.resolve();
    };
    return { translator, answers, seen, answer };
  }

  test('is asked for once in a network without IPv4, and the usual one is tried meanwhile', async () => {
    const { translator, answers, seen, answer } = watch();
    translator.linksAre([wifi]);
    expect(answers).toHaveLength(0);
    translator.linksAre([wifi, cell]);
    translator.linksAre([wifi, cell]);
    expect(answers).toHaveLength(1);
    await answer(named);
    expect(seen).toEqual(['64:ff9b::/96', '2001:db8:122:344::/96']);
    expect(translator.wasNamed).toBe(true);
    translator.linksAre([wifi]);
    expect(translator.prefix).toBeNull();
  });

  test('is not what another network called its own', async () => {
    const { translator, answer } = watch();
    translator.linksAre([cell]);
    translator.linksAre([{ ...cell, addresses: ['2001:db8:9::7'] }]);
    await answer(named);
    expect(translator).toMatchObject({ prefix: WELL_KNOWN, wasNamed: false });
    await answer([]);
    expect(translator.prefix).toBe(WELL_KNOWN);
  });

  test('a person is told what a network lacks', () => {
    const v4 = ['198.51.100.20'];
    const of = (links: readonly AccessLink[], endpoints: readonly string[], wasNamed: boolean) =>
      remarksOn({ links, endpoints, translator: { prefix: WELL_KNOWN, wasNamed } });
    expect(of([wifi], v4, false)).toEqual([]);
    expect(of([cell], [...v4, '2001:db8::20'], false)).toEqual([]);
    expect(of([wifi, cell], v4, true)).toEqual([
      "wwan0 has IPv6 only, and the relay IPv4 only: sending through the network's translator 64:ff9b::/96",
    ]);
    expect(of([cell], v4, false)).toEqual([
      'wwan0 has IPv6 only, and the relay IPv4 only: sending through 64:ff9b::/96, though its resolver names no translator (NAT64)',
    ]);
    expect(of([wifi], ['2001:db8::20'], false)[0]).toContain('cannot carry the tunnel');
    expect(of([cell], [], false)).toEqual([]);
  });
});
