import { markingOf } from '../config/marking.ts';
import type { RelaySettings } from '../config/schema.ts';
import { policing } from '../datapath/decision/policing.ts';
import type { SessionPolicing } from '../datapath/userspace/session.ts';
import type { TunnelMarking } from '../tunnel/dscp-ecn.ts';

/** What a relay's settings say of the packets of every session. */
export interface TrafficRules {
  readonly mtu: number;
  readonly marking: TunnelMarking;
  readonly policing: SessionPolicing;
}

export function trafficRules(settings: RelaySettings): TrafficRules {
  const { innerMtu: mtu, perSessionBitsPerSecond, perSessionBurstMs } = settings;
  const rate =
    perSessionBitsPerSecond === undefined ? null : policing(perSessionBitsPerSecond, mtu, perSessionBurstMs);
  return {
    mtu,
    marking: markingOf(settings),
    policing: { uplink: rate, downlink: rate },
  };
}
