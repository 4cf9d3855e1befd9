import { setTimeout as delay } from 'node:timers/promises';
import { afterEach, describe, expect, it } from 'vitest';
import { startCapture } from '../../../infra/lab/capture.ts';
import { createLab, type Lab, type Namespace } from '../../../infra/lab/lab.ts';
import { ipPacketOf } from '../../../infra/lab/pcap.ts';
import {
  type AccessLink,
  createPublicNetwork,
  type Device,
  type PublicHost,
  type PublicNetwork,
} from '../../../infra/lab/topology.ts';
import { startTraffic } from '../../../infra/lab/traffic.ts';
import { monotonicMs } from '../../../src/telemetry/clock.ts';
import { withoutRoot } from './requirements.ts';

let lab: Lab | undefined;
afterEach(async () => {
  await lab?.close();
  lab = undefined;
});

async function publicNetwork(): Promise<PublicNetwork> {
  lab = await createLab({ name: 'networks' });
  return createPublicNetwork(lab);
}

/** Sends a datagram from port 5000 to port 6000 of each address every 10 ms; echoes whatever it hears on port 6000. */
const TALKER = `
  const [mode, ...targets] = process.argv.slice(1);
  const socket = require('node:dgram').createSocket('udp4');
  if (mode === 'echo') socket.bind(6000).on('message', (m, from) => socket.send(m, from.port, from.address));
  else socket.bind(5000, () => setInterval(() => targets.forEach((t) => socket.send('x', 6000, t)), 10));
  socket.on('listening', () => console.log('listening'));
`;

/** Resolves when its socket is open: what comes earlier would be answered by the kernel, with port unreachable. */
async function talk(namespace: Namespace, ...args: string[]): Promise<void> {
  const label = `talker ${namespace} ${args[0]}`;
  const talker = await lab!.spawn(namespace, [process.execPath, '-e', TALKER, ...args], { label });
  while (!talker.output().includes('listening')) {
    if (!talker.running) throw new Error(`${label} ended: ${talker.output()}`);
    await delay(5);
  }
}

/** Watches the source ports that arrive at hosts' UDP port 6000, and every ICMP message there. */
async function watch(hosts: readonly PublicHost[]) {
  const captures = await Promise.all(
    hosts.map(({ namespace, label }) =>
      startCapture(lab!, { namespace, interface: 'pub0', name: label, filter: 'udp port 6000 or icmp' }),
    ),
  );
  const packets = (host: number) =>
    captures[host]!.frames().flatMap((frame) => {
      const packet = ipPacketOf(frame);
      return packet ? [packet] : [];
    });
  const ports = (host: number) => [
    ...new Set(
      packets(host)
        .filter(({ udp }) => udp?.destinationPort === 6_000)
        .map(({ source, udp }) => `${source}:${udp?.sourcePort}`),
    ),
  ];
  return {
    ports,
    icmp: (host: number) => packets(host).filter(({ protocol }) => protocol === 1).length,
    /** Resolves when `count` different source ports were seen at each host. */
    async until(count: number) {
      const deadlineMs = monotonicMs() + 10_000;
      while (!hosts.every((_, host) => ports(host).length >= count)) {
        if (monotonicMs() > deadlineMs) {
          throw new Error(
            `fewer than ${count} source ports: ${JSON.stringify(hosts.map((_, i) => ports(i)))}`,
          );
        }
        await delay(20);
      }
    },
  };
}

async function flow(device: Device, link: AccessLink, peer: PublicHost, packetsPerSecond = 500) {
  const traffic = await startTraffic(lab!, [
    {
      name: 'flow',
      device: { namespace: device.namespace, address: link.address, port: 7_000 },
      peer: { namespace: peer.namespace, address: peer.address, port: 7_000 },
      packetsPerSecond,
    },
  ]);
  await traffic.start();
  return {
    traffic,
    /** Measures what happens during `durationMs`. */
    async during(durationMs: number, settleMs = 200) {
      const fromMs = monotonicMs();
      await delay(durationMs);
      const toMs = monotonicMs();
      await delay(settleMs);
      return traffic.measure('flow', { fromMs, toMs });
    },
  };
}

describe.skipIf(withoutRoot)('an emulated link', () => {
  it('delays each way by what it is told, changes while it runs, and loses the share it is told', async () => {
    const net = await publicNetwork();
    const [peer, wifi, phone] = await Promise.all([
      net.host('peer', { address: '198.51.100.20' }),
      net.accessNetwork('wifi', { kind: 'plain' }),
      net.device('phone'),
    ]);
    const link = await phone.attach(wifi, { interface: 'wifi0', metric: 100, delayMs: 30 });
    const { during, traffic } = await flow(phone, link, peer);
    await during(200);

    const slow = await during(600);
    expect(slow.both.lost).toBe(0);
    for (const { delayMs } of [slow.up, slow.down]) {
      expect(delayMs).toBeGreaterThanOrEqual(30);
      expect(delayMs).toBeLessThan(34);
    }

    await link.shape({ delayMs: 5, lossRate: 0.05 });
    await during(100);
    const lossy = await during(2_000);
    expect(lossy.up.delayMs).toBeGreaterThanOrEqual(5);
    expect(lossy.up.delayMs).toBeLessThan(9);
    expect(lossy.both.lost / lossy.both.sent).toBeGreaterThan(0.03);
    expect(lossy.both.lost / lossy.both.sent).toBeLessThan(0.07);
    expect(lossy.both.reordered).toBe(0);

    await link.shape({ dead: true });
    const dead = await during(300);
    expect(dead.both.received).toBe(0);
    expect(await traffic.socketDrops()).toBe(0);
  });

  it('takes less than half a core for 3,000 packets/s', async () => {
    const net = await publicNetwork();
    const [peer, wifi, phone] = await Promise.all([
      net.host('peer', { address: '198.51.100.20' }),
      net.accessNetwork('wifi', { kind: 'plain' }),
      net.device('phone'),
    ]);
    const link = await phone.attach(wifi, { interface: 'wifi0', metric: 100, delayMs: 10 });
    const { during } = await flow(phone, link, peer, 1_500);
    await during(300);
    const startMs = net.emulator.processorMs();
    const { both } = await during(2_000);
    const share = (net.emulator.processorMs() - startMs) / 2_200;
    expect(both.lost).toBe(0);
    expect(share).toBeLessThan(0.5);
  });
});

describe.skipIf(withoutRoot)('a device', () => {
  it('loses a link at once, uses the next by metric, and gets it back', async () => {
    const net = await publicNetwork();
    const [wifi, cellular, phone] = await Promise.all([
      net.accessNetwork('wifi', { kind: 'plain' }),
      net.accessNetwork('cell', { kind: 'nat-symmetric' }),
      net.device('phone'),
    ]);
    const wifi0 = await phone.attach(wifi, { interface: 'wifi0', metric: 100 });
    await phone.attach(cellular, { interface: 'cell0', metric: 200 });
    const way = async () =>
      /dev (\S+)/.exec(
        (await lab!.run(phone.namespace, ['ip', 'route', 'get', '198.51.100.20'])).stdout,
      )?.[1];
    expect(await way()).toBe('wifi0');
    await wifi0.cut();
    expect(await way()).toBe('cell0');
    await wifi0.up();
    expect(await way()).toBe('wifi0');
    await wifi0.cut('carrier');
    expect((await lab!.run(phone.namespace, ['ip', 'link', 'show', 'wifi0'])).stdout).toContain('NO-CARRIER');
    await wifi0.up();
    await wifi0.cut('address');
    expect(await way()).toBe('cell0');
  });

  it('cannot send from an address of another network', async () => {
    const net = await publicNetwork();
    const [peer, wifi, phone] = await Promise.all([
      net.host('peer', { address: '198.51.100.20' }),
      net.accessNetwork('wifi', { kind: 'plain' }),
      net.device('phone'),
    ]);
    const link = await phone.attach(wifi, { interface: 'wifi0', metric: 100 });
    const seen = await watch([peer]);
    await lab!.ip(phone.namespace, ['address add 203.0.113.250/32 dev lo']);
    const foreign = TALKER.replace('bind(5000,', "bind(5000, '203.0.113.250',");
    await lab!.spawn(phone.namespace, [process.execPath, '-e', foreign, 'talk', peer.address], {
      label: 'foreign',
    });
    const honest = TALKER.replace('bind(5000,', `bind(5001, '${link.address}',`);
    await lab!.spawn(phone.namespace, [process.execPath, '-e', honest, 'talk', peer.address], {
      label: 'honest',
    });
    await seen.until(1);
    await delay(200);
    expect(seen.ports(0)).toEqual([`${link.address}:5001`]);
  });
});

describe.skipIf(withoutRoot)('an access network', () => {
  async function twoPeers(kind: 'nat-preserving' | 'nat-symmetric') {
    const net = await publicNetwork();
    const [first, second, wifi, phone] = await Promise.all([
      net.host('first', { address: '198.51.100.20' }),
      net.host('second', { address: '198.51.100.21' }),
      net.accessNetwork('wifi', { kind }),
      net.device('phone'),
    ]);
    await phone.attach(wifi, { interface: 'wifi0', metric: 100 });
    const seen = await watch([first, second]);
    await Promise.all([talk(first.namespace, 'echo'), talk(second.namespace, 'echo')]);
    await talk(phone.namespace, 'talk', first.address, second.address);
    await seen.until(1);
    return { wifi, seen };
  }

  it('with a port-preserving NAT keeps the port for every destination', async () => {
    const { wifi, seen } = await twoPeers('nat-preserving');
    expect(seen.ports(0)).toEqual([`${wifi.publicAddress}:5000`]);
    expect(seen.ports(1)).toEqual([`${wifi.publicAddress}:5000`]);
  });

  it('with a symmetric NAT shows each destination another port', async () => {
    const { wifi, seen } = await twoPeers('nat-symmetric');
    const [first] = seen.ports(0);
    const [second] = seen.ports(1);
    expect(first).toContain(`${wifi.publicAddress}:`);
    expect(second).toContain(`${wifi.publicAddress}:`);
    expect(first).not.toBe(second);
  });

  it.each(['nat-preserving', 'nat-symmetric'] as const)(
    'with a %s moves an open flow to another port without telling anyone',
    async (kind) => {
      const { wifi, seen } = await twoPeers(kind);
      for (const ports of [2, 3]) {
        await wifi.remap();
        await seen.until(ports);
      }
      expect(seen.ports(0)).toHaveLength(3);
      expect(seen.icmp(0)).toBe(0);
      expect(seen.icmp(1)).toBe(0);
    },
  );

  it('of the plain kind refuses to remap', async () => {
    const net = await publicNetwork();
    const hotel = await net.accessNetwork('hotel', { kind: 'plain' });
    await expect(hotel.remap()).rejects.toThrow('access network hotel is plain');
  });
});
