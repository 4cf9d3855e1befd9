import { describe, expect, it } from 'vitest';
import { parseLaptopConfig } from '../../../clients/laptop/config.ts';
import { DEVICE_MARKING } from '../../../clients/sdk/session.ts';
import { parseSettings } from '../../../src/config/load.ts';
import { markingOf } from '../../../src/config/marking.ts';
import { policing } from '../../../src/datapath/decision/policing.ts';
import { trafficRules } from '../../../src/relay/traffic-rules.ts';
import { DEFAULT_MARKING } from '../../../src/tunnel/dscp-ecn.ts';

const rulesOf = (more = '') => trafficRules(parseSettings(`relay: {id: r1, interface: pub0${more}}`).relay!);

describe('what a relay’s settings say of packets', () => {
  it('is the documented default when they say nothing', () => {
    expect(rulesOf()).toEqual({
      mtu: 1280,
      marking: DEFAULT_MARKING,
      policing: { uplink: null, downlink: null },
    });
  });

  it('R41, R45: is size, marks and rate as they are set', () => {
    const dscp = 'dscp: {intoTunnel: {mode: rewrite, value: 10}, outOfTunnel: {mode: copy}}';
    const rules = rulesOf(`, innerMtu: 1400, ${dscp}, ecn: normal, perSessionBitsPerSecond: 1000000`);
    const rate = policing(1_000_000, 1400, 100);
    expect(rules).toEqual({
      mtu: 1400,
      marking: {
        ingress: { mode: 'rewrite', value: 10 },
        egress: { mode: 'copy', value: 0 },
        ecn: 'normal',
      },
      policing: { uplink: rate, downlink: rate },
    });
  });

  it.each([
    ['innerMtu: 1279', /innerMtu/],
    ['ecn: always', /ecn/],
    ['dscp: {intoTunnel: {mode: copy, value: 64}}', /dscp\.intoTunnel\.value/],
    ['perSessionBitsPerSecond: 127999', /perSessionBitsPerSecond/],
  ])('is refused by name: %s', (setting, name) => {
    expect(() => rulesOf(`, ${setting}`)).toThrow(name);
  });
});

it('R45: a device’s settings say the same of its own end, and mark congestion towards the relay by default', () => {
  const config = parseLaptopConfig(`
    signalling: {url: 'wss://door.example'}
    issuer: {tokenEndpoint: 'https://login.example/token', clientId: me, audience: 'https://m.example'}
    pool: shared
    kind: rsipsec`);
  expect(markingOf(config)).toEqual(DEVICE_MARKING);
});
