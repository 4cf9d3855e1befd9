/**
 * Program: the packet engine as a relay process runs it, in its own thread behind its main thread, without registry and
 * signalling, which are idle while packets flow. Obeys `EngineHostCommand`.
 */
import { type EngineClient, startUserspaceEngine } from '../../../src/datapath/userspace/client.ts';
import type { XdpWish } from '../../../src/datapath/xdp/fast-engine.ts';
import type { Lease } from '../../../src/protocol/lease.ts';
import { monotonicMs } from '../../../src/telemetry/clock.ts';
import { serve } from '../../lab/control-channel.ts';

export interface EngineHostPlan {
  readonly tun: string;
  readonly endpoint: string;
  /** In XDP on these interfaces too; it fails where that is not possible. */
  readonly xdp?: readonly string[];
  readonly sessions: readonly {
    readonly id: string;
    readonly index: number;
    /** Hexadecimal. */
    readonly root: string;
    readonly lease: Lease;
  }[];
}

export type EngineHostCommand =
  | { readonly op: 'start'; readonly plan: EngineHostPlan }
  | { readonly op: 'counters' };

const ANCHOR = 'bench';
/** Of inner packets: the largest of the cases. */
const INNER_MTU = 1_400;
/** In force and never reached: 100 Gbit/s. */
const RATE = { nsPerOctetQ16: 5_243, burstNs: 10_000_000 } as const;
const policing = { uplink: RATE, downlink: RATE };
let engine: EngineClient | undefined;

async function start({ tun, endpoint, sessions, xdp }: EngineHostPlan): Promise<EngineClient> {
  const relayBoot = crypto.getRandomValues(new BigUint64Array(1))[0]! | 1n;
  const started = await startUserspaceEngine({
    tun,
    relayBoot,
    persist: false,
    mtu: INNER_MTU,
    policing,
    ...(xdp === undefined ? {} : { xdp: wish(xdp, sessions.length) }),
  });
  started.onExit((error) => {
    throw error ?? new Error('the packet engine ended');
  });
  const untilMs = monotonicMs() + 86_400_000;
  const anchor = { id: ANCHOR, endpoints: [endpoint], epoch: 1n, untilMs };
  await started.command({ op: 'anchor', anchor });
  for (const { id, index, root, lease } of sessions) {
    const session = { id, index, root: new Uint8Array(Buffer.from(root, 'hex')), hint: null };
    await started.command({ op: 'session', anchor: ANCHOR, session });
    await started.command({ op: 'lease', anchor: ANCHOR, lease, untilMs });
  }
  return started;
}

/** Its pins lie in a bpffs of this process's own, and end with it. */
function wish(interfaces: readonly string[], sessions: number): XdpWish {
  const place = { relay: 'bench', interfaces, bpffs: '/sys/fs/bpf', sessions: Math.max(sessions, 64) };
  return { ...place, anyDevice: true, wish: 'required' };
}

serve<EngineHostCommand>(async (command) => {
  switch (command.op) {
    case 'start':
      engine = await start(command.plan);
      return null;
    case 'counters':
      return engine?.command({ op: 'counters' });
    default:
      return command satisfies never;
  }
});
