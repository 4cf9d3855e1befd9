import { writeFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import type { Lab, Namespace } from '../../lab/lab.ts';

/** ISC Kea's DHCPv4 server with its leases in memory and in a file, two threads; loaded by its own perfdhcp. */
export interface Kea {
  /**
   * Leases a second that it gives without losing more than one exchange in a hundred, searched from what it gave last
   * time; 0 when it loses more at the lowest rate already. Each trial takes `forS` seconds.
   */
  capacity(forS: number): Promise<number>;
}

const SERVER = '10.0.0.1';
/** Lost exchanges of a hundred that a rate may have and still count as carried. */
const LOST_PERCENT = 1;
const FIRST_RATE = 8_000;
const LOWEST_RATE = 500;
const HIGHEST_RATE = 64_000;
/** Rates are told apart to this factor. */
const NARROW = 1.08;
const CONFIGURED_WITHIN_MS = 15_000;

export async function startKea(lab: Lab): Promise<Kea> {
  const [server, client] = await Promise.all([lab.namespace('kea'), lab.namespace('perfdhcp')]);
  await lab.ip(server, [
    `link add srv0 type veth peer name cli0 netns ${client}`,
    `address add ${SERVER}/8 dev srv0`,
    'link set srv0 up',
  ]);
  await lab.ip(client, ['address add 10.0.0.2/8 dev cli0', 'link set cli0 up']);
  const config = lab.file('kea.json');
  writeFileSync(config, JSON.stringify(configuration(lab.file('kea-leases.csv'))));
  const process = await lab.spawn(server, ['kea-dhcp4', '-c', config], {
    label: 'kea',
    env: { KEA_LOCKFILE_DIR: lab.directory, KEA_PIDFILE_DIR: lab.directory },
  });
  await listening(lab, server, () => process.output());
  let former: number | undefined;
  return {
    async capacity(forS) {
      const found = await search(former, (rate) => lostPercent(lab, client, rate, forS));
      former = found || undefined;
      return found;
    },
  };
}

function configuration(leaseFile: string): object {
  return {
    Dhcp4: {
      'interfaces-config': { interfaces: ['srv0'], 'dhcp-socket-type': 'udp' },
      // A lease is in the file before it is acknowledged; the file is not compacted during the run.
      'lease-database': { type: 'memfile', persist: true, name: leaseFile, 'lfc-interval': 0 },
      'multi-threading': { 'enable-multi-threading': true, 'thread-pool-size': 2, 'packet-queue-size': 64 },
      'valid-lifetime': 3600,
      subnet4: [
        { id: 1, subnet: '10.0.0.0/8', interface: 'srv0', pools: [{ pool: '10.1.0.1 - 10.254.255.254' }] },
      ],
      loggers: [{ name: 'kea-dhcp4', severity: 'ERROR', output_options: [{ output: 'stderr' }] }],
    },
  };
}

async function listening(lab: Lab, server: Namespace, said: () => string): Promise<void> {
  const deadline = Date.now() + CONFIGURED_WITHIN_MS;
  while (Date.now() < deadline) {
    const { stdout } = await lab.run(server, ['cat', '/proc/net/udp']);
    // Port 67 in the form of that file.
    if (stdout.includes(':0043 ')) return;
    await delay(50);
  }
  throw new Error(`kea-dhcp4 does not listen: ${said()}`);
}

async function lostPercent(lab: Lab, client: Namespace, rate: number, forS: number): Promise<number> {
  // It ends with status 3 when exchanges were lost: that is a result here, not a failure.
  const { stdout } = await lab.run(client, [
    ...['sh', '-c', 'perfdhcp "$@" || test $? -eq 3', 'perfdhcp'],
    ...['-4', '-r', String(rate), '-R', '4000000', '-p', String(forS), '-l', 'cli0', SERVER],
  ]);
  const told = [...stdout.matchAll(/sent packets: (\d+)\nreceived packets: (\d+)/g)];
  const [offers, acks] = told.map(([, sent, received]) => ({
    sent: Number(sent),
    received: Number(received),
  }));
  if (offers === undefined || acks === undefined) throw new Error(`perfdhcp did not tell:\n${stdout}`);
  // Whoever cannot even send at the rate has not shown that it is carried.
  if (offers.sent < 0.95 * rate * forS) return 100;
  return 100 * (1 - acks.received / offers.sent);
}

/** The highest rate that loses little enough: in strides until it lies between two rates, which then come closer. */
export async function search(
  former: number | undefined,
  lost: (rate: number) => Promise<number>,
): Promise<number> {
  const stride = former === undefined ? 2 : 1.2;
  let rate = former ?? FIRST_RATE;
  let good = 0;
  let bad = Number.POSITIVE_INFINITY;
  while (good === 0 || bad / good > NARROW) {
    if ((await lost(rate)) <= LOST_PERCENT) good = rate;
    else bad = rate;
    if (good === 0) rate = bad / stride;
    else if (bad === Number.POSITIVE_INFINITY) rate = good * stride;
    else rate = Math.sqrt(good * bad);
    rate = Math.round(rate);
    if (rate < LOWEST_RATE || rate > HIGHEST_RATE) break;
  }
  return good;
}
