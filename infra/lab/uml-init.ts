/** The shell script that runs as process 1 inside a user-mode-linux kernel. */
import type { UmlCard } from './uml.ts';

/** Line on the console when commands are taken. */
export const READY = 'MOORING-UML-READY';

/** ESP with AES-GCM or AES-CBC and HMAC, AH with HMAC-SHA256. GCM states are refused without drbg and jitterentropy. */
const MODULES = [
  ...['xfrm_user', 'esp4', 'ah4', 'authenc', 'seqiv', 'echainiv'],
  ...['gcm', 'ghash-generic', 'ctr', 'cbc', 'hmac', 'sha512_generic', 'jitterentropy_rng', 'drbg'],
];

export interface InitPlan {
  readonly name: string;
  readonly cards: readonly UmlCard[];
  readonly modules: { readonly root: string; readonly modprobe: string };
}

/** A card is given to its host before it goes up: up again, it would open another TAP than the one that was moved away. */
function cardCommands(card: UmlCard, number: number): string[] {
  const device = `vec${number}`;
  const [ip, run] =
    card.host === undefined ? ['ip', ''] : [`ip -n ${card.host}`, `ip netns exec ${card.host} `];
  return [
    ...(card.host === undefined ? [] : [`ip link set ${device} netns ${card.host}`]),
    `${ip} link set ${device} mtu ${card.mtu ?? 1500} up`,
    `${run}ethtool -K ${device} tx off tso off gso off gro off sg off >/dev/null 2>&1`,
    ...(card.address ? [`${ip} address add ${card.address} dev ${device}`] : []),
    ...(card.gateway ? [`${ip} route add default via ${card.gateway} dev ${device} onlink`] : []),
  ];
}

/** Everything writable is a tmpfs inside; the host's files are only read. */
export function initScript({ name, cards, modules }: InitPlan): string {
  return [
    '#!/bin/bash',
    'export PATH=/usr/sbin:/usr/bin:/sbin:/bin TMPDIR=/run',
    'mount -t proc proc /proc',
    'mount -t sysfs sys /sys',
    'mount -t tmpfs tmpfs /run',
    'mount -t tmpfs tmpfs /var/tmp',
    `echo ${modules.modprobe} > /proc/sys/kernel/modprobe`,
    `modprobe -d ${modules.root} -a ${MODULES.join(' ')}`,
    `hostname ${name}`,
    'sysctl -qw net.ipv4.ip_forward=1 net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.default.rp_filter=0',
    'sysctl -qw net.ipv4.conf.all.send_redirects=0 net.ipv4.conf.default.send_redirects=0',
    'ip link set lo up',
    ...[...new Set(cards.flatMap(({ host }) => host ?? []))].flatMap((host) => [
      `ip netns add ${host}`,
      `ip -n ${host} link set lo up`,
    ]),
    ...cards.flatMap(cardCommands),
    'cd /run',
    'stty -echo -onlcr 2>/dev/null',
    `echo "${READY} $(cat /proc/uptime)"`,
    // Bash reads ahead on a terminal; through cat it sees a stream.
    'cat | bash --norc --noprofile -s',
    '',
  ].join('\n');
}
