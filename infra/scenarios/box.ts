/**
 * A customer's box behind a device: a router of its own, which holds the leased address on its upstream interface and
 * translates its LAN onto it. Whatever box a household has: Mooring hands it the address and knows nothing of the LAN.
 */
import type { AgentStatus } from '../../clients/laptop/status.ts';
import type { Lab, Namespace } from '../lab/lab.ts';

/** Interface of the device towards the box: the agent's `behind`. */
export const BEHIND = 'box0';
/** The box's next hop on that wire; link-local, so that it takes nobody's address. */
const DEVICE_SIDE = '169.254.7.1';
const UPSTREAM = 'up0';
/** What every packet of the box may be: the tunnel's inner MTU on an access network of 1500 octets is larger. */
const MTU = 1280;

export interface Box {
  readonly namespace: Namespace;
  /** Hosts of its LAN, by label. */
  readonly hosts: Readonly<Record<string, { readonly namespace: Namespace; readonly address: string }>>;
  /** Takes the leased address, and the rules of `ruleset` with `$leased` and `$ports` defined. */
  take(lease: NonNullable<AgentStatus['lease']>, ruleset: string): Promise<void>;
}

/** Makes the box and its LAN (192.168.1.0/24, its hosts from .10 on) on `BEHIND` of a device; before its agent starts. */
export async function buildBox(
  lab: Lab,
  label: string,
  device: Namespace,
  hosts: readonly string[],
): Promise<Box> {
  const box = await lab.namespace(`${label}-box`);
  await lab.ip(device, [
    `link add ${BEHIND} type veth peer name ${UPSTREAM} netns ${box}`,
    `address add ${DEVICE_SIDE}/32 dev ${BEHIND}`,
    `link set ${BEHIND} mtu ${MTU} up`,
  ]);
  await lab.ip(box, [
    `link set ${UPSTREAM} mtu ${MTU} up`,
    'link add lan0 type bridge forward_delay 0 stp_state 0',
    'address add 192.168.1.1/24 dev lan0',
    'link set lan0 up',
  ]);
  await lab.run(box, ['sysctl', '-qw', 'net.ipv4.ip_forward=1']);
  const made: Record<string, { namespace: Namespace; address: string }> = {};
  for (const [i, host] of hosts.entries()) {
    const namespace = await lab.namespace(`${label}-${host}`);
    const address = `192.168.1.${10 + i}`;
    await lab.ip(box, [
      `link add port${i} type veth peer name eth0 netns ${namespace}`,
      `link set port${i} master lan0 up`,
    ]);
    await lab.ip(namespace, [
      `address add ${address}/24 dev eth0`,
      'link set eth0 up',
      'route add default via 192.168.1.1',
    ]);
    made[host] = { namespace, address };
  }
  return {
    namespace: box,
    hosts: made,
    async take({ address, ports }, ruleset) {
      const { first, count } = ports ?? { first: 1024, count: 64_512 };
      const defined = `define leased = ${address}\ndefine ports = ${first}-${first + count - 1}\n`;
      await lab.ip(box, [
        `address add ${address}/32 dev ${UPSTREAM}`,
        `route add default via ${DEVICE_SIDE} dev ${UPSTREAM} onlink src ${address}`,
      ]);
      await lab.run(box, ['nft', '-f', '-'], `${defined}${ruleset}`);
    },
  };
}
