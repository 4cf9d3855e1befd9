import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { EngineCommand } from '../../../src/datapath/engine-api.ts';
import { commandConnection } from '../../../src/registry/connection.ts';
import type { Registry } from '../../../src/registry/registry.ts';
import { createStore } from '../../../src/registry/store.ts';
import { openJournal } from '../../../src/relay/journal/journal.ts';
import { createRelayPlane } from '../../../src/relay/plane.ts';
import { followAnchor, type ServedAnchor, serveAnchor } from '../../../src/relay/served-anchor.ts';
import { ManualTimers } from '../../unit/clients/manual-timers.ts';
import { at, EngineRig } from '../../unit/datapath/engine-rig.ts';
import { HandDevice } from '../../unit/datapath/hand-device.ts';
import { ip, udp } from '../../unit/datapath/packets.ts';
import { type RealRedis, realRedis, silent } from '../registry/real-redis.ts';

const ADDRESS = '192.0.2.7';
const ENDPOINT = '198.51.100.1';
const PEER = '203.0.113.9';
const HOME = at('192.0.2.33', 40_001);
const DEVICE = { tenant: 't', id: 'd1' };
const THUMBPRINT = '1'.repeat(43);

let server: RealRedis;
let registry: Registry;
let epoch: bigint;
const directory = mkdtempSync('/tmp/mooring-doubled-');
beforeAll(async () => {
  server = await realRedis();
  registry = createStore(commandConnection(server.client()), silent, async () => undefined);
  await registry.declareAnchor({
    ...{ id: 'a1', pool: 'p', sharing: 'shared', home: 'r1', portBlock: 1024, maxPortBlock: 4096 },
    ...{ prefixes: [`${ADDRESS}/32`], endpoints: [ENDPOINT] },
  });
  ({ epoch } = await registry.claim('a1', 'r1', 'b'.repeat(16), 1e9));
});
afterAll(async () => {
  await server.stop();
  rmSync(directory, { recursive: true, force: true });
});

const down = (port: number) => ip(PEER, ADDRESS, 17, udp(53, port));
const up = (port: number) => ip(ADDRESS, PEER, 17, udp(port, 53));

/** A relay without sockets: an engine, and what of the registry it serves or stands by for. */
function relay(boot: bigint) {
  const rig = new EngineRig(boot, Number(boot));
  const engine = { command: async (command: EngineCommand) => rig.command(command) };
  const timers = new ManualTimers();
  const options = {
    ...{ anchor: 'a1', registry, engine, log: silent, siteKey: new Uint8Array(32), timers },
    ...{ epoch, untilMs: 1e12, relay: 'r1', outageGraceMs: 0, isCurrent: () => true },
    ...{ onEnded: () => undefined, onResized: () => undefined },
    // What is to be done a turn later.
    onInstalled: () => void setImmediate(() => timers.advance(0)),
  };
  return { rig, engine, options };
}

/** What of these packets arrives at the device, and what of its own goes out. */
function carried(rig: EngineRig, device: HandDevice, ports: readonly number[]) {
  device.received.splice(0);
  for (const port of ports) rig.packet(down(port));
  rig.converse(device, HOME, ENDPOINT);
  for (const port of ports) rig.datagram(HOME, device.data(up(port)), ENDPOINT);
  const portsOf = (packets: readonly Uint8Array[], offset: number) =>
    packets.map((packet) => packet[offset]! * 256 + packet[offset + 1]!);
  return { in: portsOf(device.received, 22), out: portsOf(rig.takeToNetwork(), 20) };
}

test('a block that has doubled is acknowledged when its owner forwards for all of it, and is its standby’s and its journal’s too', async () => {
  const owner = relay(1n);
  const journal = await openJournal(directory);
  const served = (await serveAnchor({ ...owner.options, journal }))!;
  const standby = relay(2n);
  const followed = await followAnchor(standby.options);
  const plane = planeOf(served, owner.engine);

  const granted = await registry.grant({
    ...{ pool: 'p', device: DEVICE, thumbprint: THUMBPRINT, kind: 'rsap-ip', leaseMs: 600_000, quota: 4 },
    ...{ requestId: randomBytes(16).toString('hex'), local: { address: ADDRESS, port: 9_000 } },
  });
  const { lease } = await plane.install(granted);
  expect(lease.ports).toEqual({ first: 8_192, count: 1_024 });
  const { session } = granted;
  const device = new HandDevice(served.root(session), session.index, 0xd1n);
  owner.rig.connect(device, HOME, ENDPOINT);
  const edges = [8_191, 8_192, 9_215, 9_216, 10_239, 10_240];
  expect(carried(owner.rig, device, edges)).toEqual({ in: [8_192, 9_215], out: [8_192, 9_215] });

  const event = await registry.extend({
    ...{ leaseId: lease.id, device: DEVICE, leaseMs: 600_000, ports: 2_048 },
    requestId: randomBytes(16).toString('hex'),
  });
  await plane.apply({ anchor: 'a1', event });
  const four = edges.slice(1, -1);
  expect(carried(owner.rig, device, edges)).toEqual({ in: four, out: four });
  const written = (await journal.read()).get('a1')?.leases;
  expect(written?.map((one) => one.lease.ports)).toEqual([{ first: 8_192, count: 2_048 }]);

  await served.stop();
  const taken = (await followed.take({ ...standby.options, epoch: epoch + 1n }))!;
  standby.rig.connect(device, HOME, ENDPOINT);
  expect(carried(standby.rig, device, edges)).toEqual({ in: four, out: four });
  await taken.stop();
});

function planeOf(served: ServedAnchor, engine: { command(command: EngineCommand): Promise<unknown> }) {
  const nobodyAsks = () => Promise.reject(new Error('nobody asks for that here'));
  return createRelayPlane({
    ...{ owned: () => served, engine, registry, port: 4556, mtu: 1280 },
    ...{ adopt: async () => undefined, prepare: async () => undefined, promise: () => false },
    ...{ handOver: () => nobodyAsks(), claim: () => nobodyAsks() },
  });
}
