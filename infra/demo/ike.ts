/**
 * The IKE ends of the demo: daemons that know nothing of Mooring, configured as their administrators would, and the rekeys
 * that are asked of them while the devices move.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { monotonicMs } from '../../src/telemetry/clock.ts';
import type { Lab } from '../lab/lab.ts';
import { startPluto } from '../lab/libreswan.ts';
import { type Charon, type IkeAssociation, startCharon } from '../lab/strongswan.ts';
import type { UmlHost } from '../lab/uml-host.ts';

/** One association: who, with whom, between which inner addresses. */
export interface IkePlan {
  readonly device: string;
  readonly protocol: 'esp' | 'ah';
  /** Public address of the peer. */
  readonly peer: string;
  readonly inner: { readonly device: string; readonly peer: string };
}

/** A rekey that was asked for and took place. */
export interface Rekey {
  readonly device: string;
  readonly of: 'child' | 'ike';
  readonly by: 'device' | 'peer';
  readonly tookMs: number;
}

/** Messages of one rekey, of a child as of IKE itself: CREATE_CHILD_SA and the old one's deletion, asked and answered (RFC 7296 section 1.3). */
export const MESSAGES_A_REKEY = 4;
/** What a rekey of a child changes in both kernels: two associations go and two come at either end. */
export const CHANGES_A_CHILD_REKEY = 8;

const SECRET = 'of this demo only';
const PEER = 'peer.test';
const identity = ({ device }: IkePlan) => `${device}.test`;
const child = ({ device }: IkePlan) => `${device}-net`;

/** What an association's end is asked to do. */
export interface IkeEnd {
  /** Has the child association, or the IKE association, renewed. */
  renew(of: Rekey['of'], plan: IkePlan): Promise<unknown>;
}

/** The peer's strongSwan, for several devices, whatever addresses they have. */
export async function startStrongswanPeer(
  lab: Lab,
  host: UmlHost,
  plans: readonly IkePlan[],
): Promise<IkeEnd> {
  return strongswanEnd(await startCharon(lab, host, { connections: swanctl(plans, 'peer') }));
}

/** The peer's libreswan, likewise. */
export async function startLibreswanPeer(
  lab: Lab,
  host: UmlHost,
  plans: readonly IkePlan[],
): Promise<IkeEnd> {
  const pluto = await startPluto(lab, host, {
    connections: plans.map(({ device }) => device),
    configuration: plans.map(ipsecConf).join('\n'),
    secrets: plans.map((plan) => `@${PEER} @${identity(plan)} : PSK "${SECRET}"\n`).join(''),
  });
  return {
    renew: (of, { device }) =>
      pluto.whack(`--rekey-${of === 'child' ? 'ipsec' : 'ike'} --name ${device} --asynchronous`),
  };
}

export interface DeviceEnd extends IkeEnd {
  /** One daemon, `by`, renews the child association, then the IKE association; resolves when both took place. */
  rekey(by: Rekey['by'], end: IkeEnd): Promise<Rekey[]>;
}

/**
 * A device's strongSwan: it draws SPIs as the file says that the agent writes for the lease, and begins by itself. Resolves when the
 * association is there.
 */
export async function startDevice(
  lab: Lab,
  host: UmlHost,
  plan: IkePlan,
  lease: { readonly address: string; readonly settingsFile: string },
): Promise<DeviceEnd> {
  const charon = await startCharon(lab, host, {
    include: lease.settingsFile,
    connections: swanctl([plan], 'device', lease.address),
  });
  const until = (what: string, done: (all: readonly IkeAssociation[]) => boolean) =>
    associationsWhen(charon, plan, what, done);
  await until('association', (all) => all[0]?.children[0]?.state === 'INSTALLED');
  return {
    ...strongswanEnd(charon),
    async rekey(by, end) {
      const before = (await charon.associations())[0]!;
      const spiBefore = before.children[0]!.spiIn;
      const rekeyed = async (of: Rekey['of'], done: (all: readonly IkeAssociation[]) => boolean) => {
        const fromMs = monotonicMs();
        await end.renew(of, plan);
        await until(`new ${of} association`, done);
        return { device: plan.device, of, by, tookMs: Math.round(monotonicMs() - fromMs) };
      };
      const child = await rekeyed('child', (all) => {
        const children = all.flatMap((association) => association.children);
        return (
          children.some(({ state, spiIn }) => state === 'INSTALLED' && spiIn !== spiBefore) &&
          children.every(({ state }) => state === 'INSTALLED' || state === 'DELETED')
        );
      });
      const ike = await rekeyed('ike', (all) =>
        all.every(
          ({ state, initiatorSpi }) => state === 'ESTABLISHED' && initiatorSpi !== before.initiatorSpi,
        ),
      );
      return [child, ike];
    },
  };
}

const WITHIN_MS = 20_000;
const POLL_MS = 50;

async function associationsWhen(
  charon: Charon,
  { device }: IkePlan,
  what: string,
  done: (all: readonly IkeAssociation[]) => boolean,
): Promise<void> {
  const deadlineMs = monotonicMs() + WITHIN_MS;
  for (;;) {
    const all = await charon.associations();
    if (all.length > 0 && done(all)) return;
    if (monotonicMs() > deadlineMs) {
      throw new Error(
        `${device}: no ${what} within ${WITHIN_MS} ms: ${JSON.stringify(all)}\n${await charon.log()}`,
      );
    }
    await delay(POLL_MS);
  }
}

function strongswanEnd(charon: Charon): IkeEnd {
  return {
    renew: (of, plan) =>
      charon.swanctl(of === 'child' ? `--rekey --child ${child(plan)}` : `--rekey --ike ${plan.device}`),
  };
}

function swanctl(plans: readonly IkePlan[], side: 'device' | 'peer', leased = ''): string {
  const other = side === 'device' ? 'peer' : 'device';
  const connections = plans.map((plan) => {
    const names = { device: identity(plan), peer: PEER };
    const algorithm = plan.protocol === 'ah' ? 'ah_proposals = sha256' : 'esp_proposals = aes128gcm16';
    return `  ${plan.device} {
    version = 2
    local_addrs = ${side === 'peer' ? plan.peer : leased}
    remote_addrs = ${side === 'peer' ? '%any' : plan.peer}
    proposals = aes128-sha256-modp2048
    local {
      auth = psk
      id = ${names[side]}
    }
    remote {
      auth = psk
      id = ${names[other]}
    }
    children {
      ${child(plan)} {
        local_ts = ${plan.inner[side]}/32
        remote_ts = ${plan.inner[other]}/32
        ${algorithm}
        start_action = ${side === 'device' ? 'start' : 'none'}
      }
    }
  }
`;
  });
  return `connections {\n${connections.join('')}}\nsecrets {\n  ike {\n    secret = "${SECRET}"\n  }\n}\n`;
}

function ipsecConf(plan: IkePlan): string {
  return [
    `conn ${plan.device}`,
    ...['authby=secret', 'ikev2=insist', 'auto=add', 'pfs=no', 'leftupdown=/bin/true'],
    // A renewal over a slow link is in time.
    'retransmit-interval=4000',
    // ESP alone: of AH, libreswan 4.10 deletes what a rekey replaced under another protocol and SPI.
    ...['ike=aes128-sha2_256;dh14', 'phase2=esp', 'phase2alg=aes_gcm128-null'],
    ...[`left=${plan.peer}`, `leftid=@${PEER}`, `leftsubnet=${plan.inner.peer}/32`],
    ...['right=%any', `rightid=@${identity(plan)}`, `rightsubnet=${plan.inner.device}/32`],
    '',
  ].join('\n\t');
}
