import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { eventually } from '../e2e/fixture/eventually.ts';
import { type Harbour, type MooredDevice, PEER_ADDRESS, startHarbour } from '../e2e/fixture/harbour.ts';
import { missing } from '../e2e/fixture/requirements.ts';
import { ENGINES, relaySettings, switchEngine } from './fixture/engines.ts';
import {
  type AssociationPlan,
  type AssociationReport,
  type FarEnd,
  freshKeys,
  mirrored,
  named,
  startFarEnd,
  TRANSFORMS,
  type Transform,
  withoutHop,
} from './fixture/far-end.ts';

const PACKETS = 16;
const INTERVAL_MS = 100;

interface FarEnds {
  readonly atPeer: FarEnd;
  /** In the order of the harbour's devices. */
  readonly atDevices: readonly FarEnd[];
}

describe.skipIf(missing('an IPsec end by scapy', 'scapy'))('an IPsec end that is not Linux', () => {
  let harbour: Harbour;
  let ends: FarEnds;

  beforeAll(async () => {
    harbour = await startHarbour({
      name: 'scapy',
      allInOne: true,
      relaySettings: relaySettings(ENGINES[0]),
      devices: [
        { name: 'alice', pool: 'shared', kind: 'rsipsec' },
        { name: 'bob', pool: 'shared', kind: 'rsipsec' },
        { name: 'carol', pool: 'whole', kind: 'rsa-ip' },
      ],
    });
    const { lab, peer, devices } = harbour;
    const [atPeer, ...atDevices] = await Promise.all([
      startFarEnd(lab, peer.namespace, peer.interface),
      ...Object.values(devices).map(({ namespace }) => startFarEnd(lab, namespace, 'mooring')),
    ]);
    ends = { atPeer: atPeer!, atDevices };
  }, 90_000);
  afterAll(() => harbour?.close());

  describe.each(ENGINES)('through the %s engine', (engine) => {
    const seen = new Map<string, { device: AssociationReport; peer: AssociationReport }>();

    beforeAll(async () => {
      await switchEngine(harbour, engine);
      await exchangeAll();
    });

    describe.each(['alice', 'bob', 'carol'])('%s', (name) => {
      it.each(TRANSFORMS.map((transform) => [named(transform)]))(
        `R37, R48: has every packet verified at either end while it moves, octet for octet (%s, ${engine})`,
        (transform) => {
          const { device, peer } = seen.get(`${name}: ${transform}`)!;
          expect([device.refused[0], peer.refused[0]]).toEqual([undefined, undefined]);
          const numbered = Array.from({ length: PACKETS }, (_, i) => `packet ${i} of ${name}: ${transform}`);
          expect([...peer.opened].sort()).toEqual([...numbered].sort());
          expect([...device.opened].sort()).toEqual(numbered.map((text) => `answer to ${text}`).sort());
          const crossed = (packets: readonly string[]) => packets.map(withoutHop).sort();
          expect(crossed(peer.received)).toEqual(crossed(device.sent));
          expect(crossed(device.received)).toEqual(crossed(peer.sent));
        },
      );
    });

    /** All associations of all devices at once with the one peer, and two moves of each device meanwhile. */
    async function exchangeAll(): Promise<void> {
      const everyone = Object.values(harbour.devices);
      const { atPeer, atDevices } = ends;
      const running: { key: string; end: FarEnd }[] = [];
      for (const [i, device] of everyone.entries()) {
        for (const [k, transform] of TRANSFORMS.entries()) {
          const plan = planOf(device, i, k, transform);
          const key = `${device.name}: ${named(transform)}`;
          await Promise.all([atDevices[i]!.associate(key, plan), atPeer.associate(key, mirrored(plan))]);
          running.push({ key, end: atDevices[i]! });
        }
      }
      await Promise.all(running.map(({ key, end }) => end.run(key, PACKETS, INTERVAL_MS)));
      for (const link of ['cell0', 'wifi0']) {
        await delay((PACKETS * INTERVAL_MS) / 3);
        await Promise.all(everyone.map((device) => device.agent.use(link)));
      }
      for (const { key, end } of running) {
        const device = await eventually(
          `all answered (${key})`,
          () => end.report(key),
          ({ opened, refused }) => opened.length + refused.length >= PACKETS,
          15_000,
        ).catch(() => end.report(key));
        seen.set(key, { device, peer: await atPeer.report(key) });
      }
    }
  });
});

/** Each association has an SPI of the lease and a port of its own; the peer's SPIs are the same towards all devices' peers. */
function planOf(device: MooredDevice, i: number, k: number, transform: Transform): AssociationPlan {
  const { address, spis } = device.lease;
  const tunnel = transform.mode === 'tunnel';
  return {
    ...transform,
    ...freshKeys(),
    here: address,
    there: PEER_ADDRESS,
    innerHere: tunnel ? `10.50.${i + 1}.2` : address,
    innerThere: tunnel ? '10.60.0.2' : PEER_ADDRESS,
    portHere: device.port(k),
    portThere: 8_000 + k,
    spiIn: (spis?.first ?? 0x1000_0000) + k,
    spiOut: 0xc000_0000 + 256 * i + k,
  };
}
