/** The XDP program of the relay with as many leases as asked for, programmed through the relay's own mirror. */
import { readFileSync } from 'node:fs';
import type { FastListener, FastSession, FastWay } from '../../../src/datapath/fast-path.ts';
import { XdpMirror } from '../../../src/datapath/xdp/mirror.ts';
import { ProgramConfig } from '../../../src/datapath/xdp/program-config.ts';
import { type BpfObject, loadBpfObject } from '../../../src/linux/bpf-object.ts';
import { afterGracePeriod, waitGracePeriod } from '../../../src/linux/grace-period.ts';
import { findLink } from '../../../src/linux/links.ts';
import { monotonicMs } from '../../../src/telemetry/clock.ts';
import { DEFAULT_MARKING } from '../../../src/tunnel/dscp-ecn.ts';
import type { DataKeyName } from '../../../src/tunnel/keys.ts';
import { REKEY_AFTER_PACKETS, TUNNEL_PORT } from '../../../src/tunnel/wire.ts';
import { devicePort, indexOf, leaseOf, sessionId } from './leases.ts';
import { socketAddress } from './tunnel-device.ts';

const ANCHOR = 'bench';
/** Rates are in force and never reached: 100 Gbit/s, in units of 2^−16 ns an octet. */
const RATE = { nsPerOctetQ16: 5_243, burstNs: 10_000_000 } as const;
export const KEY_NUMBER = 1;
const KEY_NAME: DataKeyName = { epoch: 1n, relayBoot: 7n, deviceBoot: 9n, keyNumber: KEY_NUMBER };
const DAY_MS = 86_400_000;

/** Nobody acts on what the program reports. */
const DEAF: FastListener = {
  fastData() {},
  fastRefused() {},
  fastReady() {},
  fastWindow() {},
  fastNotice() {},
  fastRekey() {},
  fastFlow() {},
};

export interface InstancePlan {
  readonly leases: number;
  readonly innerMtu: number;
  /** Interfaces of this namespace. */
  readonly interfaces: readonly string[];
  readonly endpoint: string;
  readonly device: string;
  readonly keys: DataKeys;
}

/** DATA keys, 16 octets each, the same for every session. */
export interface DataKeys {
  readonly toRelay: Uint8Array;
  readonly toDevice: Uint8Array;
}

export interface Instance {
  readonly object: BpfObject;
  /** Sends the downlink of a lease's session to the first or the second port of its device. */
  flip(lease: number, second: boolean): void;
  /** Octets of kernel memory that all maps take by the kernel's own account. */
  kernelBytes(): number;
  /** To be called at least twice a second while packets flow. */
  alive(): void;
  close(): void;
}

export function createInstance(octets: Uint8Array, plan: InstancePlan): Instance {
  const { leases, keys } = plan;
  const object = loadBpfObject(octets, {
    entries: {
      // Ports, SPIs and the session of each, and the addresses.
      index: leases * 3 + Math.ceil(leases / 256) + 64,
      anchors: 16,
      sessions: leases,
      ways: leases,
      windows: Math.ceil(leases * 2.25),
      meters: leases,
    },
  });
  const mirror = new XdpMirror({
    maps: object.maps,
    btf: object.btf,
    askGrace: (done) => afterGracePeriod(() => done()),
    waitGrace: waitGracePeriod,
    rates: { uplink: RATE, downlink: RATE },
  });
  const config = new ProgramConfig(object.maps.config!, object.btf);
  config.write({
    tunnelPort: TUNNEL_PORT,
    innerMtu: plan.innerMtu,
    rekeyAfter: REKEY_AFTER_PACKETS,
    marking: DEFAULT_MARKING,
    interfaces: plan.interfaces.map((name) => findLink(name)!),
  });
  const controlTagKey = crypto.getRandomValues(new Uint8Array(16));
  const untilMs = monotonicMs() + DAY_MS;
  const wayTo = (port: number): FastWay => ({
    path: socketAddress(plan.device, port),
    endpoint: plan.endpoint,
    key: { octets: keys.toDevice, name: KEY_NAME },
    nextSequence: 1,
    heldUntilMs: null,
  });
  const anchor = mirror.anchor({ id: ANCHOR, endpoints: [plan.endpoint] });
  anchor.begin(1n, untilMs, false);
  const sessions: FastSession[] = [];
  for (let lease = 0; lease < leases; lease += 1) {
    const spec = { id: sessionId(lease), index: indexOf(lease), controlTagKey };
    const session = mirror.session(anchor, spec, DEAF);
    session.receive({ octets: keys.toRelay, name: KEY_NAME }, Number.POSITIVE_INFINITY, null);
    mirror.lease(leaseOf(lease, ANCHOR), session, untilMs);
    session.way(wayTo(devicePort(lease)));
    sessions.push(session);
  }
  return {
    object,
    flip: (lease, second) => sessions[lease]!.way(wayTo(devicePort(lease) + (second ? 1 : 0))),
    kernelBytes: () =>
      Object.values(object.maps).reduce((sum, { fd }) => {
        const [, octets = '0'] =
          /^memlock:\s*(\d+)$/m.exec(readFileSync(`/proc/self/fdinfo/${fd}`, 'utf8')) ?? [];
        return sum + Number(octets);
      }, 0),
    alive: () => config.alive(),
    close: () => object.close(),
  };
}
