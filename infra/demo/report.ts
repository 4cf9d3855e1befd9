/** The demo's result: the JSON file and the table at the end. */

import { compareInnerPackets, tunnelledPackets } from '../lab/inner-packets.ts';
import type { Frame } from '../lab/pcap.ts';
import { ipPacketOf } from '../lab/pcap.ts';
import { CHANGES_A_CHILD_REKEY, MESSAGES_A_REKEY, type Rekey } from './ike.ts';
import type { Move } from './moves.ts';
import type { Actor } from './stage.ts';
import type { PeerRecord, RelayRecord } from './verdict.ts';

const ESP = 50;
const AH = 51;
const IKE_PORTS = [500, 4500];

/** What forwarded, as the relays themselves tell. */
export interface EngineRecord {
  readonly engine: 'xdp' | 'userspace';
  /** Of XDP: in the driver, or in the kernel's own path. */
  readonly mode: 'native' | 'generic' | null;
  /** Why it is not XDP, or what it cannot do here. */
  readonly engineNotes: readonly string[];
}

export interface DemoResult extends EngineRecord {
  readonly ok: boolean;
  readonly devices: readonly {
    readonly name: string;
    readonly lease: Actor['lease'];
    readonly moves: readonly Move[];
  }[];
  readonly peer: Omit<PeerRecord, 'spisByAddress'>;
  readonly relay: RelayRecord;
  readonly faults: readonly string[];
}

/** What the captures on the peers' interfaces say of the far side of every association. */
export function peerRecord(
  frames: readonly Frame[],
  peers: readonly string[],
  rekeys: readonly Rekey[],
  associationChanges: number,
): PeerRecord {
  const sources = new Set<string>();
  const spisByAddress = new Map<string, Set<number>>();
  let ike = 0;
  for (const frame of frames) {
    const packet = ipPacketOf(frame);
    if (packet === undefined) continue;
    const { udp } = packet;
    if (udp !== undefined && (IKE_PORTS.includes(udp.sourcePort) || IKE_PORTS.includes(udp.destinationPort)))
      ike += 1;
    if (packet.protocol !== ESP && packet.protocol !== AH) continue;
    if (peers.includes(packet.destination)) sources.add(packet.source);
    if (peers.includes(packet.source) && packet.spi !== undefined) {
      const spis = spisByAddress.get(packet.destination) ?? new Set();
      spisByAddress.set(packet.destination, spis.add(packet.spi));
    }
  }
  const byAddress = Object.fromEntries([...spisByAddress].map(([address, spis]) => [address, [...spis]]));
  return {
    sourceAddresses: [...sources].sort(),
    spisSeen: [...new Set(Object.values(byAddress).flat())].sort((a, b) => a - b),
    spisByAddress: byAddress,
    rekeys,
    ikeOrSaChanges:
      Math.abs(ike - rekeys.length * MESSAGES_A_REKEY) +
      Math.abs(associationChanges - rekeys.filter(({ of }) => of === 'child').length * CHANGES_A_CHILD_REKEY),
  };
}

/** Compares what each relay carried: the packet in the tunnel with the packet on the public side. */
export function relayRecord(captures: Iterable<readonly Frame[]>, peers: readonly string[]): RelayRecord {
  let compared = 0;
  let different = 0;
  const steps = new Set<number>();
  for (const frames of captures) {
    const publicSide = frames
      .map(ipPacketOf)
      .filter((packet) => packet !== undefined)
      .filter(({ protocol }) => protocol === ESP || protocol === AH);
    // Packets from the peer that no device could be sent (its link was cut) have no counterpart: compare what left.
    const fromDevices = publicSide.filter(({ destination }) => peers.includes(destination));
    const found = compareInnerPackets(tunnelledPackets(frames), fromDevices);
    const back = compareInnerPackets(
      publicSide.filter(({ source }) => peers.includes(source)),
      [...tunnelledPackets(frames)].filter(
        ({ source, protocol }) => peers.includes(source) && (protocol === ESP || protocol === AH),
      ),
    );
    for (const comparison of [found, back]) {
      compared += comparison.same + comparison.different;
      different += comparison.different;
      for (const step of comparison.ttlSteps) steps.add(step);
    }
  }
  return { compared, different, ttlSteps: [...steps].sort((a, b) => a - b) };
}

export function described({ engine, mode, engineNotes }: EngineRecord): string {
  const notes = engineNotes.length === 0 ? '' : ` (${engineNotes.join('; ')})`;
  return `${engine}${mode === null ? '' : `, ${mode} mode`}${notes}`;
}

/** The table at the end. */
export function table(result: DemoResult): string {
  const hex = (value: number) => `0x${value.toString(16)}`;
  const range = (
    { first, count }: { first: number; count: number },
    show: (value: number) => string = String,
  ) => `${show(first)}–${show(first + count - 1)}`;
  const lines = ['', 'device  lease'];
  for (const { name, lease } of result.devices) {
    const ports = lease.ports === null ? 'all ports' : `ports ${range(lease.ports)}`;
    const spis = lease.spis === null ? 'all SPIs' : `SPIs ${range(lease.spis, hex)}`;
    lines.push(
      `${name.padEnd(7)} ${lease.kind.padEnd(8)} ${lease.address}  ${ports}, ${spis}, bind ${lease.bindId}`,
    );
  }
  const row = (cells: readonly (string | number)[]) =>
    cells
      .map((cell, i) => (i < 3 ? String(cell).padEnd([8, 19, 18][i]!) : String(cell).padStart(8)))
      .join(' ');
  lines.push(
    '',
    row(['device', 'move', 'kind', 'sent', 'lost', 'dup', 'reord', 'gap ms', 'RTT ms', 'stall']),
  );
  for (const { name, moves } of result.devices) {
    for (const move of moves) {
      const { kind, sent, lost, duplicated, reordered, gapMs, linkRttMs, stalledMs } = move;
      lines.push(
        row([
          name,
          `${move.from} → ${move.to}`,
          kind,
          sent,
          lost,
          duplicated,
          reordered,
          gapMs,
          linkRttMs,
          stalledMs,
        ]),
      );
    }
  }
  lines.push(
    '',
    `engine: ${described(result)}`,
    ...result.peer.rekeys.map(
      ({ device, of, by, tookMs }) =>
        `rekeyed while it moved: ${device}, ${of === 'ike' ? 'IKE' : 'child'} association, by the ${by}, in ${tookMs} ms`,
    ),
    `the peers saw: ${result.peer.sourceAddresses.join(', ')}; SPIs ${result.peer.spisSeen.map(hex).join(', ')}; ${result.peer.ikeOrSaChanges} IKE messages or changes of associations beside the rekeys`,
    `the relays: ${result.relay.compared} packets compared on both sides, ${result.relay.different} differ; TTL fell by ${result.relay.ttlSteps.join(', ')}`,
    ...result.faults.map((fault) => `NOT KEPT: ${fault}`),
    result.ok ? 'ok: every association stayed as it was, or was renewed as asked' : 'failed',
  );
  return lines.join('\n');
}
