/**
 * libreswan's IKE daemon on a host of a user-mode-linux kernel: a second, independent IKEv2 as far end. Its Debian package
 * conflicts with strongSwan's, so `infra/setup.mjs` only unpacks it.
 */
import { existsSync, writeFileSync } from 'node:fs';
import type { Lab } from './lab.ts';
import type { UmlHost } from './uml-host.ts';

const PROGRAMS = '/opt/mooring-lab/libreswan/usr/libexec/ipsec';
/** Where its programs look for each other. */
const COMPILED_IN = '/usr/libexec/ipsec';

/** Why libreswan cannot run here, or undefined if it can. */
export function libreswanMissing(): string | undefined {
  return existsSync(`${PROGRAMS}/pluto`)
    ? undefined
    : `${PROGRAMS}/pluto is missing (node infra/setup.mjs unpacks Debian package libreswan)`;
}

export interface PlutoOptions {
  /** Text of ipsec.conf. */
  readonly configuration: string;
  /** Text of ipsec.secrets. */
  readonly secrets: string;
  /** Names of the connections to load. */
  readonly connections: readonly string[];
}

export interface Pluto {
  /** What `whack` answers. */
  whack(args: string): Promise<string>;
}

/** Resolves when the daemon has its connections loaded and listens. */
export async function startPluto(lab: Lab, host: UmlHost, options: PlutoOptions): Promise<Pluto> {
  const { name } = host;
  const file = (suffix: string) => lab.file(`${name}.${suffix}`);
  const own = `/var/tmp/${name}-pluto`;
  writeFileSync(file('ipsec.conf'), options.configuration);
  writeFileSync(file('ipsec.secrets'), options.secrets, { mode: 0o600 });
  const socket = `--ctlsocket ${own}/run/pluto.ctl`;
  await host.exec(
    `mkdir -p ${own}/nss ${own}/d ${own}/run
     certutil -N -d sql:${own}/nss --empty-password
     setsid unshare -m sh -c 'mount -t tmpfs tmpfs /usr/libexec && mkdir -p ${COMPILED_IN} && mount --bind ${PROGRAMS} ${COMPILED_IN} &&
       exec ${COMPILED_IN}/pluto --nofork --config ${file('ipsec.conf')} --secretsfile ${file('ipsec.secrets')} --nssdir ${own}/nss --ipsecdir ${own}/d \\
         --rundir ${own}/run --logfile ${own}/log --no-dnssec --use-xfrm --nhelpers 0' </dev/null >${own}/out 2>&1 &
     for i in $(seq 200); do [ -S ${own}/run/pluto.ctl ] && break; sleep 0.1; done
     ${options.connections.map((connection) => `${PROGRAMS}/addconn --config ${file('ipsec.conf')} ${socket} ${connection} || { cat ${own}/out ${own}/log; exit 1; }`).join('\n     ')}
     ${PROGRAMS}/whack ${socket} --listen`,
    30_000,
  );
  return {
    whack: (args) => host.exec(`${PROGRAMS}/whack ${socket} ${args}`),
  };
}
