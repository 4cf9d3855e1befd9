/** An access network: a router between devices and the public network, plain or translating. */
import type { Lab, Namespace } from './lab.ts';

/**
 * - `plain`: devices have routed addresses.
 * - `nat-preserving`: one public address; a flow keeps its source port, whatever its destination.
 * - `nat-symmetric`: one public address; another random port for each destination.
 */
export type AccessKind = 'plain' | 'nat-preserving' | 'nat-symmetric';

export interface AccessNetwork {
  readonly label: string;
  readonly kind: AccessKind;
  readonly namespace: Namespace;
  /** The router's own address on the public network: what NATed devices appear as. */
  readonly publicAddress: string;
  /** The router's address towards the devices. */
  readonly gateway: string;
  readonly prefixLength: number;
  /** With IPv6: the same router; devices have a routed /64, whatever the kind. */
  readonly gateway6?: string;
  /** Next unused device address of this network, of each family it has. */
  takeAddress(): { readonly address: string; readonly address6?: string };
  /** Silently moves every open mapping to another port, as a NAT does that restarts or rebalances. */
  remap(): Promise<void>;
}

/** Interface of the router towards the public network, and the bridge of its device side. */
export const WAN = 'wan0';
export const LAN = 'lan0';

/** Ports after a remap: ranges of this size, one after the other, none of them holding the ports in use before. */
const REMAP = { first: 20_000, size: 4_000, ranges: 10 } as const;

/** Only what `masquerade` takes behind it; a remapped port comes from a range that the old one is not in. */
function masquerade(kind: AccessKind, remaps: number): string[] {
  const random = kind === 'nat-symmetric' ? ' random,fully-random' : '';
  const rules = [`oifname "${WAN}" masquerade${random}`];
  if (remaps > 0) {
    const first = REMAP.first + ((remaps - 1) % REMAP.ranges) * REMAP.size;
    rules.unshift(
      `oifname "${WAN}" meta l4proto { tcp, udp } masquerade to :${first}-${first + REMAP.size - 1}${random}`,
    );
  }
  return rules;
}

/** Foreign sources are dropped as access networks do (BCP 38); unsolicited packets are dropped, not refused. */
function ruleset(kind: AccessKind, subnet: string, subnet6: string | undefined): string {
  const nat = kind === 'plain' ? [] : masquerade(kind, 0);
  return `
table ip access {
  chain forward {
    type filter hook forward priority filter; policy accept;
    iifname "${LAN}" ip saddr != ${subnet} counter drop
  }
  chain input {
    type filter hook input priority filter; policy accept;
    iifname "${WAN}" meta l4proto != icmp counter drop
  }
  chain postrouting {
    type nat hook postrouting priority srcnat; policy accept;
    ${nat.join('\n    ')}
  }
}
${subnet6 === undefined ? '' : ruleset6(subnet6)}`;
}

function ruleset6(subnet: string): string {
  return `
table ip6 access {
  chain forward {
    type filter hook forward priority filter; policy accept;
    iifname "${LAN}" ip6 saddr != ${subnet} counter drop
  }
  chain input {
    type filter hook input priority filter; policy accept;
    iifname "${WAN}" meta l4proto != ipv6-icmp counter drop
  }
}
`;
}

export interface AccessNetworkPlan {
  readonly label: string;
  readonly kind: AccessKind;
  readonly publicAddress: string;
  /** First three octets and the last octet's base of the device subnet. */
  readonly subnetBase: readonly [string, number];
  readonly prefixLength: number;
  /** First three groups of the devices' IPv6 /64; default: no IPv6. */
  readonly network6?: string;
}

/** Makes the device side and the rules of a router whose `wan0` exists already. */
export async function configureAccessNetwork(
  lab: Lab,
  namespace: Namespace,
  plan: AccessNetworkPlan,
): Promise<AccessNetwork> {
  const [network, base] = plan.subnetBase;
  const gateway = `${network}.${base + 1}`;
  const subnet = `${network}.${base}/${plan.prefixLength}`;
  const { network6 } = plan;
  const gateway6 = network6 === undefined ? undefined : `${network6}::1`;
  await lab.ip(namespace, [
    `link add ${LAN} type bridge forward_delay 0 stp_state 0`,
    `address add ${gateway}/${plan.prefixLength} dev ${LAN}`,
    ...(gateway6 === undefined ? [] : [`address add ${gateway6}/64 dev ${LAN}`]),
    `link set ${LAN} up`,
  ]);
  await lab.run(namespace, ['sysctl', '-qw', 'net.ipv4.ip_forward=1', 'net.ipv6.conf.all.forwarding=1']);
  const subnet6 = network6 === undefined ? undefined : `${network6}::/64`;
  await lab.run(namespace, ['nft', '-f', '-'], ruleset(plan.kind, subnet, subnet6));
  let devices = 0;
  let remaps = 0;
  return {
    label: plan.label,
    kind: plan.kind,
    namespace,
    publicAddress: plan.publicAddress,
    gateway,
    prefixLength: plan.prefixLength,
    ...(gateway6 === undefined ? {} : { gateway6 }),
    takeAddress() {
      const host = base + 2 + devices++;
      return {
        address: `${network}.${host}`,
        ...(network6 === undefined ? {} : { address6: `${network6}::${host}` }),
      };
    },
    async remap() {
      if (plan.kind === 'plain') {
        throw new Error(`access network ${plan.label} is plain: only a NAT can be remapped`);
      }
      remaps += 1;
      const rules = masquerade(plan.kind, remaps).map((rule) => `add rule ip access postrouting ${rule}`);
      const script = ['flush chain ip access postrouting', ...rules].join('\n');
      await lab.run(namespace, ['nft', '-f', '-'], `${script}\n`);
      await lab.run(namespace, ['conntrack', '-F']);
    },
  };
}
