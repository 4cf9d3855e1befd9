import { describe, expect, it } from 'vitest';
import type { Move } from '../../../infra/demo/moves.ts';
import { type DeviceRecord, faults, type PeerRecord, type RelayRecord } from '../../../infra/demo/verdict.ts';

const move = (change: Partial<Move> = {}): Move => ({
  from: 'wifi0',
  to: 'cell0',
  kind: 'make-before-break',
  sent: 2000,
  received: 2000,
  lost: 0,
  duplicated: 0,
  reordered: 0,
  gapMs: 5,
  linkRttMs: 50,
  stalledMs: 0,
  ...change,
});
const cut = (change: Partial<Move> = {}) =>
  move({
    kind: 'break-before-make',
    lost: 40,
    received: 1960,
    lostOutsideCut: 0,
    downlinkResumedMs: 80,
    ...change,
  });
const device = (moves: readonly Move[]): DeviceRecord => ({
  name: 'alice',
  lease: { address: '198.51.100.21', spis: { first: 0x4000, count: 256 } },
  moves,
});
const peer: PeerRecord = {
  sourceAddresses: ['198.51.100.21'],
  spisSeen: [0x4000],
  spisByAddress: { '198.51.100.21': [0x4000] },
  rekeys: (['child', 'ike'] as const).map((of) => ({ device: 'alice', of, by: 'device', tookMs: 300 })),
  ikeOrSaChanges: 0,
};
const relay: RelayRecord = { compared: 100, different: 0, ttlSteps: [1] };

describe('the verdict of the demo', () => {
  it('finds no fault where every promise was kept', () => {
    const kept = [
      move(),
      cut(),
      move({ kind: 'nat-change', lost: 90, gapMs: 400 }),
      move({ kind: 'relay-change', gapMs: 90 }),
    ];
    expect(faults([device(kept)], peer, relay)).toEqual([]);
  });

  it('stretches a bound by as long as the machine stalled, and no longer', () => {
    const late = { downlinkResumedMs: 190 };
    expect(faults([device([cut({ ...late, stalledMs: 40 })])], peer, relay)).toEqual([]);
    expect(faults([device([cut({ ...late, stalledMs: 39 })])], peer, relay)).toHaveLength(1);
  });

  it.each<[string, Move, RegExp]>([
    ['a packet lost with both links up', move({ lost: 1 }), /1 packets lost, promised 0/],
    ['a packet that arrived twice', move({ duplicated: 1 }), /arrived twice/],
    ['no traffic at all', move({ sent: 0, received: 0 }), /no traffic/],
    ['a packet lost that was not on the cut link', cut({ lostOutsideCut: 1 }), /not on the cut link/],
    ['downlink back too late', cut({ downlinkResumedMs: 151 }), /after 151 ms, promised 150 ms/],
    ['a cut that nobody measured', (({ downlinkResumedMs: _, ...rest }) => rest)(cut()), /not measured/],
    ['a NAT change that takes too long', move({ kind: 'nat-change', gapMs: 1001 }), /silent for 1001 ms/],
    ['a relay change that takes too long', move({ kind: 'relay-change', gapMs: 1001 }), /silent for 1001 ms/],
  ])('names %s', (_what, broken, words) => {
    expect(faults([device([broken])], peer, relay).join()).toMatch(words);
  });

  it.each<[string, Partial<PeerRecord>, Partial<RelayRecord>, RegExp]>([
    [
      'a source address that nobody leased',
      { sourceAddresses: ['198.51.100.21', '203.0.113.2'] },
      {},
      /203\.0\.113\.2, which nobody leased/,
    ],
    ['a leased address that was silent', { sourceAddresses: [] }, {}, /no packet from 198\.51\.100\.21/],
    [
      'an SPI outside the leased block',
      { spisByAddress: { '198.51.100.21': [0x4100] } },
      {},
      /in no leased block/,
    ],
    ['an association that changed', { ikeOrSaChanges: 1 }, {}, /associations changed/],
    ['a rekey that did not take place', { rekeys: peer.rekeys.slice(1) }, {}, /no rekey of its child/],
    ['a packet that the relay altered', {}, { different: 1 }, /differ on the two sides/],
    ['a comparison that compared nothing', {}, { compared: 0 }, /no packet was compared/],
  ])('names %s', (_what, seen, carried, words) => {
    expect(faults([device([move()])], { ...peer, ...seen }, { ...relay, ...carried }).join()).toMatch(words);
  });
});
