/** `npm run bench -- laptop`: TCP through the agent and a relay in userspace, beside plain routing and other tunnels. */
import { runIperf } from '../../lab/iperf.ts';
import type { Lab } from '../../lab/lab.ts';
import { type Benchmark, type BenchOptions, chosenCases, type Outcome } from '../benchmark.ts';
import { unmeasured, worstRatio } from '../goals.ts';
import { Results } from '../record.ts';
import { alternate, type Measurement } from '../rounds.ts';
import { type LaptopStage, MOORING, type System, setLaptopStage, WIREGUARD } from './stage.ts';

const CASES = { 'tcp-up': 'up', 'tcp-down': 'down' } as const;
type Case = keyof typeof CASES;
const ROUNDS = {
  full: { warmUps: 1, counted: 5, seconds: 3 },
  quick: { warmUps: 0, counted: 1, seconds: 2 },
} as const;
/** TCP finds its window in these, seconds. */
const WARM_UP_SECONDS = 1;
const RATE = 'Mbit/s';
const AGAINST_WIREGUARD = { id: 'laptop.vs_wireguard_go', op: '>=', goal: 1 } as const;

export const laptop: Benchmark = {
  name: 'laptop',
  summary: 'TCP through the agent and a userspace relay: plain routing, wireguard-go, OpenVPN in turn',
  cases: Object.keys(CASES),
  run: runLaptop,
};

async function runLaptop(lab: Lab, { only, quick, say }: BenchOptions): Promise<Outcome> {
  const cases = chosenCases(laptop, only) as Case[];
  let stage: LaptopStage;
  try {
    stage = await setLaptopStage(lab, say);
  } catch (error) {
    const reason = error instanceof Error ? error.message.split('\n')[0]! : String(error);
    return { results: [], goals: [unmeasured(AGAINST_WIREGUARD, reason)], notes: [] };
  }
  const results = new Results();
  const failed: string[] = [];
  const { seconds, ...rounds } = quick ? ROUNDS.quick : ROUNDS.full;
  const measurements = cases.flatMap((name) =>
    stage.systems.map(
      (system): Measurement => ({
        system: system.name,
        case: name,
        async run() {
          try {
            return await measure(lab, system, name, seconds);
          } catch (error) {
            const reason = error instanceof Error ? error.message.split('\n')[0] : String(error);
            failed.push(`not counted: one repetition of ${name}, ${system.name}: ${reason}`);
            return {};
          }
        },
      }),
    ),
  );
  await alternate(
    measurements,
    rounds,
    ({ system, case: name }, figures) => {
      results.add(system, name, figures);
      say(`${name.padEnd(10)} ${system.padEnd(18)} ${Math.round(figures[RATE] ?? 0)} ${RATE}`);
    },
    say,
  );
  const ratios = cases.map((name) => ({
    name,
    ours: results.median(MOORING, name, RATE),
    theirs: results.median(WIREGUARD, name, RATE),
  }));
  return {
    results: results.all(),
    goals: [worstRatio(AGAINST_WIREGUARD, ratios)],
    notes: [...failed, ...stage.unavailable, ...NOTES],
  };
}

async function measure(
  lab: Lab,
  system: System,
  name: Case,
  seconds: number,
): Promise<Record<string, number>> {
  const session = { way: CASES[name], seconds, warmUpSeconds: WARM_UP_SECONDS } as const;
  const { start, end } = await runIperf(lab, system, session);
  return {
    [RATE]: end.sum_received.bits_per_second / 1e6,
    'octets a segment': start.tcp_mss_default,
    resent: end.sum_sent.retransmits ?? 0,
  };
}

const NOTES = [
  'one TCP stream of iperf3 between the device and a peer, up or down, the first second not counted; all on the same two cores: both ends of iperf3, both ends of the tunnel, and every network between them',
  'device – access router – relay or tunnel server – peer; plain routing has no server in between. veth as cards that complete checksums and cut nothing',
  'each tunnel has the inner MTU that it gives itself: the octets of a TCP segment are in the table',
  'wireguard-go (Debian 12, 2022) and OpenVPN encrypt every octet; Mooring’s tunnel authenticates every octet and leaves secrecy to what is inside',
];
