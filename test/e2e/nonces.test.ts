import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ControlChannel } from '../../src/tunnel/control.ts';
import { CONTROL } from '../../src/tunnel/wire.ts';
import { type Harbour, startHarbour } from './fixture/harbour.ts';
import { auditNonces } from './fixture/nonce-audit.ts';
import { missing } from './fixture/requirements.ts';
import { restartUnderTraffic, type WireRecord } from './fixture/restarts-under-traffic.ts';
import type { TunnelDatagram } from './fixture/tunnel-trace.ts';

const KILLS = 20;

describe.skipIf(missing('nonces over restarts'))('kill -9 of relay and device in turn, under traffic', () => {
  let harbour: Harbour;
  let record: WireRecord;

  beforeAll(async () => {
    harbour = await startHarbour({
      name: 'nonces',
      relays: ['r1'],
      devices: [{ name: 'alice', pool: 'shared', kind: 'rsap-ip', links: { wifi0: 'home' } }],
    });
    record = await restartUnderTraffic(harbour, 'alice', KILLS);
    const { audit, outagesMs } = record;
    console.log(
      `${KILLS} kills: ${audit.data.attributed} of ${audit.data.seen} DATA datagrams attributed to ${audit.keys} keys, ` +
        `${audit.control.opened} of ${audit.control.seen} CONTROL opened, ` +
        `${audit.boots.relay} relay and ${audit.boots.device} device incarnations; ` +
        `outages of ${Math.min(...outagesMs)} to ${Math.max(...outagesMs)} ms`,
    );
  });
  afterAll(() => harbour?.close());

  it('sees every incarnation and attributes at least 95 % of the datagrams to a key', () => {
    const { audit } = record;
    expect(audit.boots.relay).toBe(1 + KILLS / 2);
    expect(audit.boots.device).toBe(1 + KILLS / 2);
    expect(audit.keys).toBeGreaterThanOrEqual(2 * KILLS);
    expect(audit.data.seen).toBeGreaterThan(KILLS * 50);
    expect(audit.data.attributed / audit.data.seen).toBeGreaterThanOrEqual(0.95);
    expect(audit.control.opened / audit.control.seen).toBeGreaterThanOrEqual(0.95);
  });

  it('no (key, nonce) is ever used twice', () => {
    expect(record.audit.repeats).toEqual([]);
  });

  it('the check finds a repeated DATA nonce, a repeated CONTROL nonce, and nothing else', () => {
    const { trace, sessions } = record;
    const later = (datagram: TunnelDatagram): TunnelDatagram => ({
      ...datagram,
      timeMs: datagram.timeMs + 1,
    });
    const data = trace.find((datagram) => datagram.class === 'data-full')!;
    const planted = auditNonces([...trace, later(data)], sessions).repeats;
    expect(planted).toHaveLength(1);
    expect(planted[0]).toMatch(/^DATA .* lane 0 sequence \d+: at .* and again at/);

    // Another message under the boot and counter of one that was sent: what a restored counter would do.
    const control = trace.find(
      ({ class: kind, direction }) => kind === 'control' && direction === 'to-relay',
    )!;
    const session = sessions.find(({ index }) => index === control.index)!;
    const forger = new ControlChannel({
      root: session.root,
      sends: 'to-relay',
      index: session.index,
      boot: control.octets.readBigUInt64BE(CONTROL.boot),
      after: control.octets.readBigUInt64BE(CONTROL.counter) - 1n,
    });
    const octets = Buffer.from(forger.seal({ kind: 'keepalive', generation: 77 }));
    expect(octets).not.toEqual(control.octets);
    const repeats = auditNonces([...trace, later({ ...control, octets })], sessions).repeats;
    expect(repeats).toHaveLength(1);
    expect(repeats[0]).toMatch(/^CONTROL to-relay .* counter \d+: at .* and again at/);
  });
});
