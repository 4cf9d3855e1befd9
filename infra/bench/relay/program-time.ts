/** Nanoseconds that the relay's program takes for a packet, by BPF_PROG_TEST_RUN: no interface, no driver, warm caches. */

import { TUNNEL_PORT } from '../../../src/tunnel/wire.ts';
import type { Measurement } from '../rounds.ts';
import {
  type ClosedLoop,
  downlinkFlow,
  FROM_DEVICE,
  FROM_PEER,
  INTERFACES,
  KEYS,
  LOOP,
  loadProgram,
} from './closed-loop.ts';
import { plainFrame, tunnelledFrame } from './frames.ts';
import { devicePort, indexOf, placeOf } from './leases.ts';
import { innerPacket, type Traffic } from './packets.ts';
import { KEY_NUMBER } from './program-instance.ts';

export const NS_CASES = ['ns-esp-100B', 'ns-esp-1400B', 'ns-udp-100B', 'ns-udp-1400B'] as const;
export const NS = { downlink: 'ns downlink', uplink: 'ns uplink' } as const;

const NAME = 'program-time';
const LEASE = 0;
const REPEAT = { full: 200_000, quick: 20_000 } as const;

export async function nsMeasurements(
  loop: ClosedLoop,
  chosen: readonly string[],
  quick: boolean,
): Promise<Measurement[]> {
  const cases = NS_CASES.filter((name) => chosen.includes(name));
  if (cases.length === 0) return [];
  await loadProgram(loop, NAME, 1, true);
  const repeat = quick ? REPEAT.quick : REPEAT.full;
  const timed = async (program: string, frame: Uint8Array, on: string): Promise<number> => {
    const answer = await loop.relay.request({
      op: 'ns',
      name: NAME,
      program,
      frame: Buffer.from(frame).toString('hex'),
      interface: on,
      repeat,
    });
    const { ns, verdict } = answer as { ns: number; verdict: string };
    if (verdict !== 'redirect' && verdict !== 'tx') throw new Error(`${program} answered ${verdict}`);
    return ns;
  };
  return cases.map((name): Measurement => {
    const [, traffic, octets] = name.split('-') as [string, Traffic, string];
    const down = innerPacket(downlinkFlow(traffic, LEASE), Number.parseInt(octets, 10));
    const up = innerPacket(uplinkFlow(traffic), Number.parseInt(octets, 10));
    const frames = {
      downlink: plainFrame(FROM_PEER, down),
      uplink: tunnelledFrame({
        frame: FROM_DEVICE,
        from: { address: LOOP.device, port: devicePort(LEASE) },
        to: { address: LOOP.endpoint, port: TUNNEL_PORT },
        key: KEYS.toRelay,
        keyNumber: KEY_NUMBER,
        index: indexOf(LEASE),
        sequence: 1,
        inner: up,
      }),
    };
    const { towardsPeer, towardsDevice } = INTERFACES;
    return {
      system: 'mooring-xdp',
      case: name,
      async run() {
        // What restoring the frame for the next repetition takes is not the program's.
        const downlink = await timed('bench_downlink', frames.downlink, towardsPeer);
        const downlinkFrame = await timed('bench_downlink_frame', frames.downlink, towardsPeer);
        const uplink = await timed('bench_uplink', frames.uplink, towardsDevice);
        const uplinkFrame = await timed('bench_uplink_frame', frames.uplink, towardsDevice);
        return { [NS.downlink]: downlink - downlinkFrame, [NS.uplink]: uplink - uplinkFrame };
      },
    };
  });
}

function uplinkFlow(traffic: Traffic) {
  const { address, port, spi } = placeOf(LEASE);
  return {
    traffic,
    source: address,
    destination: LOOP.peer,
    sourcePort: port,
    destinationPort: 9_000,
    spi,
  };
}
