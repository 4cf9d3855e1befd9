import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startCapture } from '../../infra/lab/capture.ts';
import { nodeCommand } from '../../infra/lab/node-command.ts';
import { ipPacketOf } from '../../infra/lab/pcap.ts';
import { startTraffic } from '../../infra/lab/traffic.ts';
import { askControl } from '../../src/admin/ask-control.ts';
import { monotonicMs } from '../../src/telemetry/clock.ts';
import { CONTROL, DATA, TUNNEL_PORT } from '../../src/tunnel/wire.ts';
import { eventually } from './fixture/eventually.ts';
import { flowWithPeer } from './fixture/flow.ts';
import { type Harbour, type MooredDevice, PEER_ADDRESS, POOLS, startHarbour } from './fixture/harbour.ts';
import { type FloodOptions, type Injector, startInjector } from './fixture/injector.ts';
import { missing } from './fixture/requirements.ts';
import { registryHash } from './fixture/session-roots.ts';
import type { StrangersPlan, StrangersReport } from './fixture/strangers-program.ts';

const ATTACKER = '198.51.100.66';
const STRANGER = '198.51.100.67';
const PLANE_ATTEMPTS = 20;
const ENDPOINT = { address: POOLS.shared.endpoint, port: TUNNEL_PORT };
/** Datagrams of each kind: once to warm up, then measured. */
const WARM_UP = 2_000;
const MEASURED = 10_000;
/** 70,000 measured datagrams that left 400 octets each behind would show. */
const RSS_TOLERANCE_KB = 24 * 1024;
const SEED = 20_240_613;
const STRANGERS = fileURLToPath(new URL('fixture/strangers-program.ts', import.meta.url));

type Kind = Omit<FloodOptions, 'target' | 'count' | 'seed'>;

describe.skipIf(missing('unauthenticated floods', 'scapy'))('an unauthenticated flood', () => {
  let harbour: Harbour;
  let alice: MooredDevice;
  let attacker: Injector;
  let kinds: Readonly<Record<string, Kind>>;
  /** They are there from the beginning: the door leaves the silent ones ten seconds. */
  let strangers: Promise<StrangersReport>;
  let heldBefore: Awaited<ReturnType<typeof held>>;

  beforeAll(async () => {
    harbour = await startHarbour({
      name: 'flood',
      relays: ['r1'],
      devices: [{ name: 'alice', pool: 'shared', kind: 'rsap-ip' }],
    });
    alice = harbour.devices.alice!;
    const host = await harbour.net.host('attacker', { address: ATTACKER });
    attacker = await startInjector(harbour.lab, host.namespace);
    kinds = floodKinds(alice.tunnel.index, (await alice.agent.status()).keyNumber!);
    heldBefore = await held();
    strangers = comeAsStrangers();
    strangers.catch(() => undefined);
  });
  afterAll(() => harbour?.close());

  const statusText = (what: 'r1' | 'signalling') =>
    askControl(harbour.lab.file(`data-${what}/control.sock`), 'GET', '/status');
  const rssKb = () => {
    const { pid } = harbour.fleet.relays.get('r1')!.process;
    return Number(/VmRSS:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]);
  };
  const records = async () => ({
    sessions: await registryHash(harbour, POOLS.shared.anchor, 'sessions'),
    leases: await registryHash(harbour, POOLS.shared.anchor, 'leases'),
    hints: await registryHash(harbour, POOLS.shared.anchor, 'hints'),
    anchors: (JSON.parse(await statusText('r1')) as { anchors: unknown }).anchors,
  });
  /** The same without where devices are: that changes when they move. */
  const held = async () => {
    const { hints: _, ...rest } = await records();
    return rest;
  };

  it('on the tunnel port is answered with nothing, allocates nothing, and disturbs nobody', async () => {
    const answers = await startCapture(harbour.lab, {
      namespace: harbour.fleet.relays.get('r1')!.host.namespace,
      interface: 'pub0',
      name: 'answers',
      // Everything the relay or its host says to strangers, ICMP included; signalling and registry live on the core.
      filter: `ip and (src host ${ENDPOINT.address} or src host 198.51.100.11) and not host ${harbour.fleet.core.address} and not host ${STRANGER}`,
    });
    const arrivals = await startCapture(harbour.lab, {
      namespace: harbour.fleet.relays.get('r1')!.host.namespace,
      interface: 'pub0',
      name: 'arrivals',
      filter: `udp dst port ${TUNNEL_PORT} and not src net 198.51.100.200/29`,
      snapLength: 64,
    });
    const flow = flowWithPeer(harbour, 'alice', 7_000, { packetsPerSecond: 50 });
    const traffic = await startTraffic(harbour.lab, [flow]);
    await traffic.start();
    const recordsBefore = await records();
    const pathBefore = (await alice.agent.status()).path;

    const flood = async (count: number, seed: number) => {
      let octets = 0;
      for (const kind of Object.values(kinds)) {
        octets += await attacker.flood({ ...kind, target: ENDPOINT, count, seed });
      }
      return octets;
    };
    await flood(WARM_UP, SEED);
    const rssBeforeKb = rssKb();
    const fromMs = monotonicMs();
    const sent = await flood(MEASURED, SEED + 1);
    const toMs = monotonicMs();
    const total = Object.keys(kinds).length * (WARM_UP + MEASURED);
    const after = await eventually(
      'through the relay',
      async () => ({ packets: await harbour.packets(), rssKb: rssKb() }),
      ({ packets }) => (packets.control['unknown-type'] ?? 0) > 0 && (packets.uplink['bad-tag'] ?? 0) > 0,
    );
    await eventually(
      'drained',
      () => monotonicMs() - toMs,
      (passedMs) => passedMs > 500,
    );

    const { up, down } = await traffic.measure('alice', { fromMs, toMs });
    await traffic.stop();
    const { dropped } = await arrivals.stop();
    await answers.stop();
    // The device is answered on each of its networks.
    const friends = Object.values(harbour.networks).map(({ publicAddress }) => publicAddress);
    const strangers = answers.frames().filter((frame) => {
      const to = ipPacketOf(frame)?.destination;
      return to === undefined || (to !== PEER_ADDRESS && !friends.includes(to));
    });
    const arrived = arrivals.frames().length;
    console.log(
      `flood: ${total} datagrams (${arrived} captured at the relay, ${dropped} missed by the capture), ${sent} octets measured in ` +
        `${Math.round(toMs - fromMs)} ms; answers ${strangers.length}; RSS ${rssBeforeKb} → ${after.rssKb} kB; ` +
        `alice lost ${up.lost} + ${down.lost} of ${up.sent} + ${down.sent}; ${JSON.stringify(after.packets)}`,
    );
    // What is not there cannot be answered: the flood did arrive.
    expect(arrived + dropped).toBeGreaterThan(total * 0.5);
    expect(strangers.map(({ octets }) => octets.toString('hex'))).toEqual([]);
    expect(after.rssKb - rssBeforeKb).toBeLessThan(RSS_TOLERANCE_KB);
    expect(await records()).toEqual(recordsBefore);
    expect((await alice.agent.status()).path).toEqual({ ...pathBefore, rttMs: expect.any(Number) });
    for (const reason of ['unknown-session', 'bad-tag', 'too-long']) {
      expect(after.packets.uplink[reason] ?? 0, reason).toBeGreaterThan(0);
    }
    for (const reason of ['unknown-type', 'unknown-session', 'bad-tag', 'bad-length']) {
      expect(after.packets.control[reason] ?? 0, reason).toBeGreaterThan(0);
    }
    expect({ up: up.duplicated, down: down.duplicated }).toEqual({ up: 0, down: 0 });
    expect(up.received).toBeGreaterThan(up.sent * 0.9);
    expect(down.received).toBeGreaterThan(down.sent * 0.9);
  });

  it("with a device's own index does not keep that device from moving", async () => {
    const kind = kinds['CONTROL of a real session with a wrong tag']!;
    const before = (await harbour.packets()).control;
    let moved = false;
    const flood = (async () => {
      for (let seed = SEED + 10; !moved && seed < SEED + 30; seed += 1) {
        await attacker.flood({ ...kind, target: ENDPOINT, count: 2_000, seed });
      }
    })();
    await eventually(
      'in the flood',
      async () => (await harbour.packets()).control['bad-tag'] ?? 0,
      (count) => count > (before['bad-tag'] ?? 0) + 2_000,
    );
    await alice.agent.use('cell0');
    const { moves, path } = await alice.agent.until(
      (status) => status.path?.link === 'cell0' && status.moves.at(-1)?.bound != null,
      'moved in the flood',
      3_000,
    );
    moved = true;
    await flood;
    console.log(`moved in the flood in ${moves.at(-1)!.bound!.tookMs} ms`);
    expect(path!.link).toBe('cell0');
    expect((await harbour.packets()).control.limited ?? 0).toBe(before.limited ?? 0);
  });

  it('of connections without hello or with garbage is closed by the door, and of any without certificate by the relay plane', async () => {
    const report = await strangers;
    expect(new Set(report.silent)).toEqual(new Set([4201]));
    // 4200: no frame of ours; 4203: a hello that proves nothing; 1007, 1009: no text, too long.
    for (const code of report.garbage) expect([4200, 4203, 1007, 1009]).toContain(code);
    for (const answer of report.answers) {
      expect(JSON.parse(answer), answer).toMatchObject({ type: 'error' });
      expect(answer.length).toBeLessThan(1_000);
    }
    expect(report.plane).toEqual({ octets: 0, refused: PLANE_ATTEMPTS });

    const { signalling } = JSON.parse(await statusText('signalling')) as { signalling: { sockets: number } };
    expect(signalling.sockets).toBe(1);
    expect((await alice.agent.status()).signalling.connected).toBe(true);
    expect(await held()).toEqual(heldBefore);
  });

  async function comeAsStrangers(): Promise<StrangersReport> {
    const { lab, fleet, net } = harbour;
    const stranger = await net.host('stranger', { address: STRANGER });
    const plan: StrangersPlan = {
      url: fleet.signallingUrl,
      caFile: fleet.authorityFile,
      silent: 20,
      garbage: 40,
      seed: String(SEED),
      plane: { host: '198.51.100.11', port: 4557, attempts: PLANE_ATTEMPTS },
    };
    const { stdout } = await lab.run(stranger.namespace, nodeCommand(STRANGERS, JSON.stringify(plan)));
    return JSON.parse(stdout) as StrangersReport;
  }
});

/** Each kind reaches another depth of the relay's judgement. */
function floodKinds(index: number, keyNumber: number): Readonly<Record<string, Kind>> {
  const header = (type: number, length: number) => {
    const octets = Buffer.alloc(length);
    octets[0] = type << 4;
    octets.writeUIntBE(index, DATA.index, 3);
    return octets;
  };
  // A whole inner packet, so that only the tag is wrong.
  const inner = Buffer.from('450000210000400040110000c6336415c6336432040007d0000d0000', 'hex');
  const packet = Buffer.concat([header(2, DATA.inner), inner, Buffer.alloc(5)]);
  packet[DATA.first]! |= (keyNumber << DATA.phaseShift) & DATA.phaseMask;
  packet.writeUInt16BE(inner.length + 5, DATA.inner + 2);
  return {
    'random octets of many sizes': { tail: [0, 1, 3, 4, 15, 16, 17, 64, 115, 116, 117, 576, 1_400] },
    'DATA of random sessions': {
      template: header(1, DATA.inner),
      scramble: [[DATA.index, 15]],
      tail: [20, 200, 1_200],
    },
    'CONTROL of random sessions': { template: header(3, CONTROL.length), scramble: [[CONTROL.index, 115]] },
    'DATA of a real session with a wrong tag': {
      template: packet,
      scramble: [[DATA.sequence, 12]],
    },
    'CONTROL of a real session with a wrong tag': {
      template: header(3, CONTROL.length),
      scramble: [[CONTROL.boot, CONTROL.length - CONTROL.boot]],
    },
    'CONTROL of a real session and wrong length': {
      template: header(3, CONTROL.boot),
      tail: [0, 24, CONTROL.length - CONTROL.boot - 1, CONTROL.length - CONTROL.boot + 1, 1_000],
    },
    'CONTROL of a real session from forged sources': {
      template: header(3, CONTROL.length),
      scramble: [[CONTROL.boot, CONTROL.length - CONTROL.boot]],
      spoofed: true,
    },
  };
}
