/** What the handover benchmark plays on: one public network, and a device with links of its own for every system. */
import { parsePool } from '../../../src/config/pools.ts';
import { startFleet } from '../../lab/fleet.ts';
import type { Lab } from '../../lab/lab.ts';
import { createPublicNetwork, type PublicNetwork } from '../../lab/topology.ts';
import { openvpnRoamer } from './openvpn.ts';
import { attachDevice, mooringRoamer, type Roamer, trafficBetween } from './roamer.ts';
import { wireguardRoamer } from './wireguard.ts';

const PEER = '198.51.100.50';
const ANCHOR = 'whole-1';
const RELAYS = ['r1', 'r2'] as const;
const POOL = parsePool({
  name: 'whole',
  sharing: 'whole',
  anchors: [{ id: ANCHOR, home: 'r1', endpoints: ['198.51.100.30'], prefixes: ['198.51.100.32/30'] }],
});

export interface HandoverStage {
  /** Mooring first. */
  readonly roamers: readonly Roamer[];
  /** Rivals that did not start, and why. */
  readonly unavailable: readonly string[];
  /** Packets that probes were too slow to take. */
  socketDrops(): Promise<number>;
}

export async function setStage(lab: Lab, say: (text: string) => void): Promise<HandoverStage> {
  const net = await createPublicNetwork(lab);
  const roamers = [await startMooring(lab, net)];
  say('Mooring is bound: relays r1 and r2, signalling, Redis, token issuer, agent');
  const unavailable: string[] = [];
  for (const [name, start] of [
    ['wireguard-go', wireguardRoamer],
    ['openvpn', openvpnRoamer],
  ] as const) {
    try {
      roamers.push(await start(lab, net));
      say(`${name} is up`);
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      unavailable.push(`${name} could not be measured: ${reason.split('\n')[0]}`);
      say(unavailable.at(-1)!);
    }
  }
  return {
    roamers,
    unavailable,
    async socketDrops() {
      let drops = 0;
      for (const { traffic } of roamers) {
        for (const one of Object.values(traffic)) drops += await one.socketDrops();
      }
      return drops;
    },
  };
}

async function startMooring(lab: Lab, net: PublicNetwork): Promise<Roamer> {
  const label = 'mooring';
  const peer = await net.host('peer', { address: PEER });
  const [{ device, links }, fleet] = await Promise.all([
    attachDevice(net, label),
    startFleet(lab, net, { relays: RELAYS, devices: [label], pools: [POOL] }),
  ]);
  const agent = await fleet.agent(device, {
    pool: POOL.name,
    kind: 'rsa-ip',
    interfaces: ['wifi0', 'cell0'],
  });
  const { lease } = await agent.until(({ state }) => state === 'bound', 'bound');
  let at: (typeof RELAYS)[number] = 'r1';
  return mooringRoamer(
    agent,
    links,
    await trafficBetween(lab, {
      device: { namespace: device.namespace, address: lease!.address },
      peer: { namespace: peer.namespace, address: PEER },
    }),
    async () => {
      const next = at === 'r1' ? 'r2' : 'r1';
      await fleet.moveAnchor(ANCHOR, at, next);
      at = next;
    },
  );
}
