import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startCapture } from '../../../infra/lab/capture.ts';
import {
  type Association,
  associationChanges,
  establish,
  REPLAY_WINDOW,
  securityAssociations,
  withFreshKeys,
} from '../../../infra/lab/ipsec.ts';
import { createLab, type Lab, type Namespace } from '../../../infra/lab/lab.ts';
import { ipPacketOf } from '../../../infra/lab/pcap.ts';
import { createPublicNetwork, PUBLIC_BRIDGE, type PublicNetwork } from '../../../infra/lab/topology.ts';
import { startTraffic } from '../../../infra/lab/traffic.ts';
import { bootUml, type Uml } from '../../../infra/lab/uml.ts';
import { monotonicMs } from '../../../src/telemetry/clock.ts';
import { withoutUml } from './requirements.ts';

const PEER = '198.51.100.20';
const PEER_INNER = '10.60.0.1';

interface End {
  readonly kernel: Uml;
  readonly application: Namespace;
}

/** A kernel on the public segment, and an application behind it whose packets go through its tunnels. */
async function end(lab: Lab, net: PublicNetwork, name: string, outer: string, inner: string): Promise<End> {
  const application = await lab.namespace(`${name}-app`);
  const gateway = inner.replace(/\d+$/, '254');
  const kernel = await bootUml(lab, {
    name,
    cards: [
      { namespace: net.namespace, tap: `${name}0`, bridge: PUBLIC_BRIDGE, address: `${outer}/24` },
      { namespace: application, tap: 'app0', tapAddress: `${inner}/24`, address: `${gateway}/24` },
    ],
  });
  await lab.ip(application, [`route add default via ${gateway}`]);
  return { kernel, application };
}

describe.skipIf(withoutUml)('kernel IPsec between two hosts of the lab', () => {
  let lab: Lab;
  let net: PublicNetwork;
  let device: End;
  let peer: End;
  const association = (protocol: 'esp' | 'ah', number: number): Association => ({
    protocol,
    reqid: number,
    device: { outer: '198.51.100.50', inner: `10.50.${number}.1`, spi: 0x1000_0000 + number },
    peer: { outer: PEER, inner: PEER_INNER, spi: 0x2000_0000 + number },
  });
  const esp = association('esp', 1);
  const ah = association('ah', 2);

  beforeAll(async () => {
    lab = await createLab({ name: 'ipsec' });
    net = await createPublicNetwork(lab);
    [device, peer] = await Promise.all([
      end(lab, net, 'device', esp.device.outer, esp.device.inner),
      end(lab, net, 'peer', PEER, PEER_INNER),
    ]);
    console.log(
      `kernels booted in ${device.kernel.bootMs.toFixed(0)} and ${peer.kernel.bootMs.toFixed(0)} ms`,
    );
    // The second association has another inner address of the same application.
    await lab.ip(device.application, [`address add ${ah.device.inner}/24 dev app0`]);
    await device.kernel.exec(
      `ip address add 10.50.2.254/24 dev vec1; ip route add ${PEER_INNER} via ${PEER} dev vec0`,
    );
    await peer.kernel.exec('ip route add 10.50.0.0/16 via 198.51.100.50 dev vec0');
    for (const each of [esp, ah]) await establish(withFreshKeys(each), device.kernel, peer.kernel);
  });
  afterAll(() => lab?.close());

  it('carries 500 packets/s each way by ESP and by AH without loss, in associations that stay as they are', async () => {
    const before = await Promise.all([device, peer].map(({ kernel }) => securityAssociations(kernel)));
    const capture = await startCapture(lab, { namespace: net.namespace, interface: 'peer0', name: 'peer' });
    const traffic = await startTraffic(
      lab,
      [esp, ah].map(({ protocol, device: { inner } }, index) => ({
        name: protocol,
        device: { namespace: device.application, address: inner, port: 7_000 + index },
        peer: { namespace: peer.application, address: PEER_INNER, port: 7_000 + index },
        packetsPerSecond: 500,
      })),
    );
    await traffic.start();
    const fromMs = monotonicMs();
    await delay(3_000);
    const toMs = monotonicMs();
    await delay(200);
    for (const flow of ['esp', 'ah']) {
      const { both } = await traffic.measure(flow, { fromMs, toMs });
      expect(both.sent).toBeGreaterThan(2_500);
      expect(both).toMatchObject({ lost: 0, duplicated: 0, reordered: 0 });
    }
    expect(await traffic.socketDrops()).toBe(0);
    await traffic.stop();

    const after = await Promise.all([device, peer].map(({ kernel }) => securityAssociations(kernel)));
    for (const [side, listing] of after.entries()) {
      expect(listing).toHaveLength(4);
      for (const sa of listing) {
        expect(sa.replayWindow).toBe(REPLAY_WINDOW);
        expect(sa.packets).toBeGreaterThan(1_250);
        expect(sa.refused).toEqual({ window: 0, replay: 0, integrity: 0 });
      }
      expect(associationChanges(before[side]!, listing)).toBe(0);
    }

    expect((await capture.stop()).dropped).toBe(0);
    const packets = capture.frames().flatMap((frame) => ipPacketOf(frame) ?? []);
    const seen = new Set(
      packets.map(({ source, protocol, spi }) => `${source} ${protocol} ${spi?.toString(16)}`),
    );
    expect([...seen].sort()).toEqual([
      '198.51.100.20 50 10000001',
      '198.51.100.20 51 10000002',
      '198.51.100.50 50 20000001',
      '198.51.100.50 51 20000002',
    ]);
  });

  it('tells when an association has been replaced by an equal one', async () => {
    const before = await securityAssociations(device.kernel);
    const [one] = before;
    await device.kernel.exec(
      `ip xfrm state delete src ${one!.source} dst ${one!.destination} proto ${one!.protocol} spi ${one!.spi}`,
    );
    expect(associationChanges(before, await securityAssociations(device.kernel))).toBe(1);
  });

  it('answers with the output and the status of a command that fails', async () => {
    await expect(device.kernel.exec('echo some words; false')).rejects.toThrow(/status 1: some words/);
    expect(await device.kernel.exec('echo more words')).toBe('more words\n');
  });
});
