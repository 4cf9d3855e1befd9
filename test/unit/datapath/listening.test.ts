import { beforeEach, describe, expect, it } from 'vitest';
import type { Lease } from '../../../src/protocol/lease.ts';
import { anchor, at, EngineRig, install, sessionId } from './engine-rig.ts';
import type { HandDevice } from './hand-device.ts';
import { ip, lease, tcp } from './packets.ts';

const SHARED = '203.0.113.7';
const PEER = '198.51.100.9';
const STRANGER = '198.51.100.77';
const WIFI = at('192.0.2.10', 40_000);
const PORT = 3100;

let rig: EngineRig;
let ann: HandDevice;
beforeEach(() => {
  rig = new EngineRig(0xaaaan);
  anchor(rig);
  ann = install(rig, 1, []);
  rig.connect(ann, WIFI);
  rig.takeSent();
});

const block = (fields: Partial<Lease> = {}) =>
  lease({ kind: 'rsap-ip', address: SHARED, ports: { first: 3072, count: 64 }, ...fields });
const knock = (from = STRANGER) => ip(from, SHARED, 6, tcp(40_000, PORT));

function listen(fields: Partial<Lease> = {}, untilMs = 1e9): Lease {
  const held = { ...block(fields), session: sessionId(1) };
  rig.command({ op: 'lease', anchor: 'a1', lease: held, untilMs });
  return held;
}

/** What the device hears of a first packet from outside. */
function heard(from?: string): Uint8Array[] {
  ann.received.length = 0;
  rig.packet(knock(from));
  for (const { octets } of rig.takeSent()) ann.take(octets, rig.nowMs);
  return [...ann.received];
}

describe('who listens on a leased port', () => {
  it('R31: hears whoever comes first, without a word of its own, from the lease to its end', () => {
    expect(heard()).toEqual([]);
    const held = listen({}, rig.nowMs + 10_000);
    expect(heard()).toEqual([knock()]);
    rig.command({ op: 'lease', anchor: 'a1', lease: held, untilMs: rig.nowMs });
    expect(heard()).toEqual([]);
    rig.command({ op: 'drop-lease', anchor: 'a1', id: listen().id });
    expect(heard()).toEqual([]);
  });

  it('R31: has the port alone', () => {
    listen();
    expect(() => install(rig, 2, [block()])).toThrow(/holds it/);
    expect(heard()).toEqual([knock()]);
  });

  it('R31: hears nobody but the remote that its lease is for', () => {
    listen({ remote: { address: PEER, port: null } });
    expect(heard()).toEqual([]);
    expect(heard(PEER)).toEqual([knock(PEER)]);
  });
});
