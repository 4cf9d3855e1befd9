import { describe, expect, it } from 'vitest';
import type { AgentStatus } from '../../../clients/laptop/status.ts';
import { summary } from '../../../clients/laptop/summary.ts';

const nothing: AgentStatus = {
  state: 'starting',
  lease: null,
  tunnel: null,
  path: null,
  epoch: null,
  keyNumber: null,
  killSwitch: false,
  links: [],
  remarks: [],
  wanted: null,
  signalling: { connected: false, lastError: 'wss://door cannot be reached' },
  counters: {},
  sendErrors: {},
  moves: [],
};

describe('what a person is told of the agent', () => {
  it('says what there is not yet, and why', () => {
    expect(summary(nothing)).toMatchInlineSnapshot(`
      "state       starting
      lease       none
      path        none
      links       none
      signalling  not connected: wss://door cannot be reached"
    `);
  });

  it('names lease, path, packets and the last move', () => {
    const status = {
      ...nothing,
      state: 'bound',
      lease: {
        id: 'a.1',
        kind: 'rsipsec',
        address: '198.51.100.21',
        ports: { first: 1024, count: 1024 },
        spis: { first: 256, count: 256 },
        ikeSpis: { first: 0xa1a1_0000, count: 0x1_0000 },
        remote: { address: '203.0.113.77', port: 53 },
      } as AgentStatus['lease'],
      path: { link: 'wlan0', observed: '203.0.113.9|40000', generation: 3, rttMs: 21.04 },
      links: [
        { id: 'wlan0', measured: { rttMs: 21.04, lossPercent: 0 }, passedOver: false },
        { id: 'wwan0', measured: { rttMs: 80, lossPercent: 12.5 }, passedOver: true },
      ] as unknown as AgentStatus['links'],
      signalling: { connected: true, lastError: null },
      counters: { sent: 12, received: 9, 'bad-tag': 0 },
      moves: [
        {
          atMs: 0,
          from: 'wwan0',
          to: 'wlan0',
          oldPath: 'alive',
          bound: { generation: 3, tookMs: 41.6, rttMs: 21, observed: null },
        },
      ],
    } satisfies AgentStatus;
    expect(summary(status)).toMatchInlineSnapshot(`
      "state       bound
      lease       198.51.100.21, ports 1024–2047, SPIs 256–511, IKE SPIs a1a10000…–a1a1ffff…, to 203.0.113.77 port 53 (rsipsec, a.1)
      path        wlan0, seen as 203.0.113.9|40000, round trip 21.0 ms, generation 3
      links       wlan0 21.0 ms; wwan0 80.0 ms, 13 % lost, passed over
      signalling  connected
      packets     sent 12, received 9
      last move   wwan0 → wlan0, took 42 ms"
    `);
  });
});
