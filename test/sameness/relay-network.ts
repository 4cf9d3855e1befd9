import { spawnSync } from 'node:child_process';
import koffi from 'koffi';
import { interfaceIndex } from '../../src/linux/libc.ts';

/** Where a packet with this destination goes on, as the routes of `enterRelayNetwork` say. */
export interface NextHop {
  readonly interface: 'pub0' | 'acc0';
  readonly mac: string;
}

const PUBLIC_ROUTER: NextHop = { interface: 'pub0', mac: '02:00:00:00:0a:01' };
const ACCESS_ROUTER: NextHop = { interface: 'acc0', mac: '02:00:00:00:0b:01' };

/** The relay's own addresses on the link layer; frames in stories go to the first. */
export const RELAY_MACS = { pub0: '02:00:00:00:00:02', acc0: '02:00:00:00:00:03' } as const;

const CLONE_NEWNET = 0x40000000;

/**
 * Puts the calling thread into a network namespace of its own, in which everything goes to a public router but what
 * goes to two of the access networks: so XDP finds routes and neighbours. Returns the index of the public interface.
 */
export function enterRelayNetwork(): Record<'pub0' | 'acc0', number> {
  const unshare = koffi.load(null).func('int unshare(int flags)') as (flags: number) => number;
  if (unshare(CLONE_NEWNET) !== 0) throw new Error('unshare(CLONE_NEWNET) was refused: run it as root');
  ip('link set lo up');
  for (const name of ['pub0', 'acc0'] as const) {
    const router = name === 'pub0' ? PUBLIC_ROUTER : ACCESS_ROUTER;
    const net = name === 'pub0' ? '192.168.1' : '192.168.2';
    ip(`link add ${name} type veth peer name ${name}-far`);
    ip(`link set ${name} address ${RELAY_MACS[name]} up`);
    ip(`link set ${name}-far up`);
    ip(`addr add ${net}.1/24 dev ${name}`);
    ip(`neigh replace ${net}.2 lladdr ${router.mac} dev ${name} nud permanent`);
    ip(`-6 neigh replace fe80::2 lladdr ${router.mac} dev ${name} nud permanent`);
  }
  run('sysctl', '-qw', 'net.ipv4.ip_forward=1', 'net.ipv6.conf.all.forwarding=1');
  ip('route add default via 192.168.1.2');
  ip('-6 route add default via fe80::2 dev pub0');
  ip('route add 192.0.2.0/24 via 192.168.2.2');
  ip('-6 route add 2001:db8:b::/64 via fe80::2 dev acc0');
  ip('route add unreachable 10.99.0.0/16');
  ip('-6 route add unreachable 2001:db8:dead::/48');
  return { pub0: interfaceIndex('pub0'), acc0: interfaceIndex('acc0') };
}

/** Where a packet to the address should leave. */
export function nextHopTo(address: string): NextHop {
  return /^(192\.0\.2\.|2001:db8:b:)/.test(address) ? ACCESS_ROUTER : PUBLIC_ROUTER;
}

function ip(args: string): void {
  run('ip', ...args.split(' '));
}

function run(command: string, ...args: string[]): void {
  const done = spawnSync(command, args, { encoding: 'utf8' });
  if (done.status !== 0) {
    throw new Error(`${command} ${args.join(' ')}: ${done.error?.message ?? done.stderr.trim()}`);
  }
}
