import { writeFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  ipsecCommands,
  type KeyedAssociation,
  type SecurityAssociation,
  securityAssociations,
  withFreshKeys,
} from '../../infra/lab/ipsec.ts';
import type { UmlHost } from '../../infra/lab/uml-host.ts';
import { type Harbour, type MooredDevice, startHarbour } from '../e2e/fixture/harbour.ts';
import { missing } from '../e2e/fixture/requirements.ts';
import { ENGINES, relaySettings, switchEngine } from './fixture/engines.ts';
import { named, TRANSFORMS, type Transform } from './fixture/far-end.ts';
import { BEHIND, buildKernelHouse, KERNEL_PEER, type KernelHouse } from './fixture/kernel-house.ts';
import { startEcho, startTalk, type TalkReport } from './fixture/talker.ts';

const PACKETS = 30;
const INTERVAL_MS = 100;
const PORT = 8_000;

describe.skipIf(missing("a Linux kernel's IPsec", 'uml'))("a real Linux kernel's IPsec", () => {
  let harbour: Harbour;
  let house: KernelHouse;
  const devices = () => Object.values(harbour.devices);

  beforeAll(async () => {
    const agent = { behind: BEHIND };
    harbour = await startHarbour({
      name: 'kernel-ipsec',
      allInOne: true,
      relaySettings: relaySettings(ENGINES[0]),
      devices: [
        { name: 'alice', pool: 'shared', kind: 'rsipsec', agent },
        { name: 'bob', pool: 'shared', kind: 'rsipsec', agent },
        { name: 'carol', pool: 'whole', kind: 'rsa-ip', agent },
      ],
      async prepare(lab, net, bare) {
        house = await buildKernelHouse(lab, net, bare, { memoryMb: 128 });
      },
    });
    for (const device of devices()) await house.moveIn(device);
    await addInner(house.peer, '10.60.0');
    for (const [i, { name }] of devices().entries()) await addInner(house.hosts[name]!, `10.50.${i + 1}`);
    const echo = TRANSFORMS.map(({ mode }, k) => [peerInner(mode, k), PORT + k] as const);
    await startEcho(harbour.lab, house.peer, echo, [KERNEL_PEER]);
  }, 90_000);
  afterAll(() => harbour?.close());

  describe.each(ENGINES)('through the %s engine', (engine) => {
    const talked = new Map<string, TalkReport>();
    let atPeer: readonly SecurityAssociation[] = [];
    const atDevice = new Map<string, readonly SecurityAssociation[]>();

    beforeAll(async () => {
      await switchEngine(harbour, engine);
      await associateAll();
      await talkAndMove();
    });

    describe.each(['alice', 'bob', 'carol'])('%s', (name) => {
      it.each(TRANSFORMS.map((transform, k) => [named(transform), k] as const))(
        `R37, R48: loses nothing while it moves, and its kernel refuses nothing (%s, ${engine})`,
        (transform, k) => {
          expect(talked.get(`${name}: ${transform}`)).toMatchObject({
            sent: PACKETS,
            answered: PACKETS,
            repeated: 0,
            errors: 0,
          });
          const associations = [...atPeer, ...atDevice.get(name)!].filter(
            ({ reqid }) => reqid === reqidOf(name, k),
          );
          expect(associations).toHaveLength(4);
          for (const { packets, refused } of associations) {
            expect(packets).toBe(PACKETS);
            expect(refused).toEqual({ window: 0, replay: 0, integrity: 0 });
          }
        },
      );
    });

    it(`R48: two devices on one address use SPIs of their own blocks towards the one peer (${engine})`, () => {
      const [alice, bob] = devices();
      expect(alice!.lease.address).toBe(bob!.lease.address);
      for (const { name, lease } of [alice!, bob!]) {
        const inbound = atDevice.get(name)!.filter(({ destination }) => destination === lease.address);
        expect(inbound.length).toBe(TRANSFORMS.length);
        for (const { spi } of inbound) {
          expect(spi).toBeGreaterThanOrEqual(lease.spis!.first);
          expect(spi).toBeLessThan(lease.spis!.first + lease.spis!.count);
        }
      }
    });

    /** Fresh associations for every transform between every device's host and the peer. */
    async function associateAll(): Promise<void> {
      const { lab } = harbour;
      const all = devices().flatMap((device, i) =>
        TRANSFORMS.map((transform, k) => ({
          name: device.name,
          keyed: associationOf(device, i, k, transform),
        })),
      );
      const hosts = [
        { name: 'peer', host: house.peer },
        ...devices().map(({ name }) => ({ name, host: house.hosts[name]! })),
      ];
      for (const { name, host } of hosts) {
        const lines =
          name === 'peer'
            ? all.flatMap(({ keyed }) => ipsecCommands(keyed, 'peer'))
            : all.filter((one) => one.name === name).flatMap(({ keyed }) => ipsecCommands(keyed, 'device'));
        // Too much for the console: the kernel reads files of the machine it runs on.
        const file = lab.file(`${name}-${engine}.xfrm`);
        writeFileSync(file, `xfrm state flush\nxfrm policy flush\n${lines.join('\n')}\n`);
        await host.exec(`ip -batch ${file}`, 20_000);
      }
    }

    async function talkAndMove(): Promise<void> {
      const talks = [];
      for (const [i, device] of devices().entries()) {
        const encapsulation = [device.lease.address];
        const talk = TRANSFORMS.map((transform, k) => ({
          name: `${device.name}: ${named(transform)}`,
          local: [deviceInner(device, i, transform.mode, k), device.port(k)] as const,
          remote: [peerInner(transform.mode, k), PORT + k] as const,
        }));
        talks.push(
          await startTalk(harbour.lab, house.hosts[device.name]!, {
            ...{ encapsulation, talk, count: PACKETS, intervalMs: INTERVAL_MS },
          }),
        );
      }
      for (const link of ['cell0', 'wifi0']) {
        await Promise.all(devices().map((device) => device.agent.use(link)));
        await delay((PACKETS * INTERVAL_MS) / 4);
      }
      for (const talk of talks) {
        for (const [flow, report] of Object.entries(await talk.finished())) talked.set(flow, report);
      }
      atPeer = await securityAssociations(house.peer);
      for (const { name } of devices()) atDevice.set(name, await securityAssociations(house.hosts[name]!));
    }
  });
});

/** An inner address for each tunnel-mode association of a host. */
async function addInner(host: UmlHost, network: string): Promise<void> {
  const lines = TRANSFORMS.map((_, k) => `address add ${network}.${2 + k}/32 dev lo`);
  await host.exec(`ip -batch - <<'END'\n${lines.join('\n')}\nEND`);
}

const DEVICES = ['alice', 'bob', 'carol'];
const reqidOf = (name: string, k: number) => 100 * (DEVICES.indexOf(name) + 1) + k;
const peerInner = (mode: Transform['mode'], k: number) =>
  mode === 'tunnel' ? `10.60.0.${2 + k}` : KERNEL_PEER;
const deviceInner = ({ lease }: MooredDevice, i: number, mode: Transform['mode'], k: number) =>
  mode === 'tunnel' ? `10.50.${i + 1}.${2 + k}` : lease.address;

/** In transport mode the peer tells two devices on one address apart by their ports, in tunnel mode by inner address. */
function associationOf(device: MooredDevice, i: number, k: number, transform: Transform): KeyedAssociation {
  const { protocol, algorithm, mode, udp } = transform;
  const { address, spis } = device.lease;
  return withFreshKeys({
    ...{ protocol, mode, udp, reqid: reqidOf(device.name, k) },
    ...(algorithm === 'hmac' ? {} : { cipher: algorithm }),
    device: {
      outer: address,
      inner: deviceInner(device, i, mode, k),
      port: device.port(k),
      spi: (spis?.first ?? 0x1000_0000) + k,
    },
    peer: { outer: KERNEL_PEER, inner: peerInner(mode, k), port: PORT + k, spi: 0xc000_0000 + 256 * i + k },
  });
}
