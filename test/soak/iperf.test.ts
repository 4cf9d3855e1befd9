import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { runIperf, startIperfServer } from '../../infra/lab/iperf.ts';
import { seededRandom } from '../../infra/lab/seeded-random.ts';
import { type Harbour, startHarbour } from '../e2e/fixture/harbour.ts';
import { missing } from '../e2e/fixture/requirements.ts';

const SEED = Number(process.env.MOVES_SEED ?? Date.now() % 1_000_000);
const MOVES = 20;
/** Of these moves, a NAT that gives the mapping in use another port. */
const REMAPS = 3;
/** Between two moves at most, milliseconds. */
const PAUSE_MS = 1_500;
/** All moves and their pauses fit into it, with time to see the session go on. */
const SESSION_S = 40;
/** What the lab's emulated links carry beside everything else on the machine. */
const BITS_PER_SECOND = 20_000_000;

describe.skipIf(missing('iperf3 over moves', 'iperf'))('a TCP session of iperf3 through the agent', () => {
  let harbour: Harbour;

  beforeAll(async () => {
    harbour = await startHarbour({
      name: 'iperf',
      networks: { home: 'plain', office: 'nat-preserving', cellular: 'nat-symmetric' },
      devices: [
        {
          ...{ name: 'dora', pool: 'whole', kind: 'rsa-ip', delayMs: 10 },
          links: { wifi0: 'home', office0: 'office', cell0: 'cellular' },
        },
      ],
    });
    const { lab, peer } = harbour;
    await startIperfServer(lab, peer.namespace, peer.address);
  }, 60_000);
  afterAll(() => harbour?.close());

  it(`goes on both ways over ${MOVES} random moves (seed ${SEED})`, async () => {
    const { lab, peer } = harbour;
    const { agent, namespace, lease } = harbour.devices.dora!;
    const device = { namespace, address: lease.address };
    let isOver = false;
    const session = runIperf(
      lab,
      { device, peer },
      { way: 'both', seconds: SESSION_S, bitsPerSecond: BITS_PER_SECOND },
    ).finally(() => {
      isOver = true;
    });
    // What it says is awaited below, after the moves.
    session.catch(() => {});
    const made = await move();
    const wasOver = isOver;
    const { intervals, end } = await session;
    expect(wasOver, 'over before the last move').toBe(false);
    console.info(
      `seed ${SEED}: ${made.join(' ')}; ${intervals.length} intervals, ` +
        `${end.sum_received.bytes} octets up, ${end.sum_received_bidir_reverse?.bytes} down, ${end.sum_sent.retransmits} segments up sent again`,
    );
    expect(intervals.length).toBeGreaterThanOrEqual(SESSION_S);
    // A session that froze, or was reset, has nothing more to show at its end.
    for (const { sum, sum_bidir_reverse: reverse } of intervals.slice(-3)) {
      expect(sum.bytes).toBeGreaterThan(0);
      expect(reverse!.bytes).toBeGreaterThan(0);
    }
    const { lease: still } = await agent.status();
    expect(still?.address).toBe(lease.address);
    expect(made.filter((step) => step === 'remap')).toHaveLength(REMAPS);

    /** Makes the moves; the names of the links, and `remap`. */
    async function move(): Promise<string[]> {
      const random = seededRandom(SEED);
      const pick = <T>(all: readonly T[]) => all[Math.floor(random() * all.length)]!;
      // One that falls on the network without a NAT waits for the next move.
      const remaps = new Set<number>();
      while (remaps.size < REMAPS) remaps.add(1 + Math.floor(random() * (MOVES - 1 - REMAPS)));
      const nats = { office0: harbour.networks.office!, cell0: harbour.networks.cellular! };
      const links = ['wifi0', 'office0', 'cell0'];
      const steps: string[] = [];
      let at = 'wifi0';
      let due = 0;
      for (let i = 0; i < MOVES; i += 1) {
        await delay(random() * PAUSE_MS);
        if (remaps.has(i)) due += 1;
        if (due > 0 && at !== 'wifi0') {
          due -= 1;
          await nats[at as keyof typeof nats].remap();
          steps.push('remap');
        } else {
          at = pick(links.filter((link) => link !== at));
          await agent.use(at);
          steps.push(at);
        }
      }
      return steps;
    }
  }, 120_000);
});
