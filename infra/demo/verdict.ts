/** What the demo promises, checked against what was measured. Pure. */
import type { Rekey } from './ike.ts';
import type { Move } from './moves.ts';

export interface Leased {
  readonly address: string;
  readonly spis: { readonly first: number; readonly count: number } | null;
}

export interface DeviceRecord {
  readonly name: string;
  readonly lease: Leased;
  readonly moves: readonly Move[];
}

export interface PeerRecord {
  /** Addresses that IPsec packets came from. */
  readonly sourceAddresses: readonly string[];
  /** SPIs of packets that the peer sent. */
  readonly spisSeen: readonly number[];
  /** The same, by the leased address they went to. */
  readonly spisByAddress: Readonly<Record<string, readonly number[]>>;
  /** Renewals that were asked for; they took place. */
  readonly rekeys: readonly Rekey[];
  /** IKE messages, and associations that appeared, vanished or became others, beside those of the rekeys. */
  readonly ikeOrSaChanges: number;
}

export interface RelayRecord {
  readonly compared: number;
  /** Packets whose octets differ on the two sides of a relay, TTL and header checksum aside. */
  readonly different: number;
  readonly ttlSteps: readonly number[];
}

/** Milliseconds. */
const BOUND = { natChange: 1_000, relayChange: 1_000, resumeSlack: 50 } as const;

/** Every promise that was not kept, in words; empty when all were. */
export function faults(devices: readonly DeviceRecord[], peer: PeerRecord, relay: RelayRecord): string[] {
  return [
    ...devices.flatMap((device) => device.moves.flatMap((move) => moveFaults(device.name, move))),
    ...peerFaults(devices, peer),
    ...(relay.compared === 0 ? ['no packet was compared on both sides of a relay'] : []),
    ...(relay.different > 0
      ? [`${relay.different} of ${relay.compared} packets differ on the two sides of a relay`]
      : []),
  ];
}

function moveFaults(name: string, move: Move): string[] {
  const fault = (text: string) => `${name}, ${move.kind} ${move.from} → ${move.to}: ${text}`;
  if (move.sent === 0 || move.received === 0) return [fault('no traffic')];
  const found: string[] = [];
  if (move.duplicated > 0) found.push(fault(`${move.duplicated} packets arrived twice`));
  switch (move.kind) {
    case 'make-before-break':
      if (move.lost > 0) found.push(fault(`${move.lost} packets lost, promised 0`));
      break;
    case 'break-before-make': {
      const promised = 2 * move.linkRttMs + BOUND.resumeSlack + move.stalledMs;
      if (move.lostOutsideCut === undefined || move.downlinkResumedMs === undefined) {
        found.push(fault('the cut was not measured'));
        break;
      }
      if (move.lostOutsideCut > 0)
        found.push(fault(`${move.lostOutsideCut} packets lost that were not on the cut link`));
      if (!(move.downlinkResumedMs <= promised)) {
        found.push(
          fault(`downlink back after ${move.downlinkResumedMs} ms, promised ${Math.round(promised)} ms`),
        );
      }
      break;
    }
    case 'nat-change':
      if (move.gapMs > BOUND.natChange + move.stalledMs)
        found.push(fault(`silent for ${move.gapMs} ms, promised ${BOUND.natChange}`));
      break;
    case 'relay-change':
      if (move.gapMs > BOUND.relayChange + move.stalledMs)
        found.push(fault(`silent for ${move.gapMs} ms, promised ${BOUND.relayChange}`));
      break;
    default:
      move.kind satisfies never;
  }
  return found;
}

function peerFaults(devices: readonly DeviceRecord[], peer: PeerRecord): string[] {
  const found: string[] = [];
  const leased = new Set(devices.map(({ lease }) => lease.address));
  const strangers = peer.sourceAddresses.filter((address) => !leased.has(address));
  const missing = [...leased].filter((address) => !peer.sourceAddresses.includes(address));
  if (strangers.length > 0)
    found.push(`the peer saw packets from ${strangers.join(', ')}, which nobody leased`);
  if (missing.length > 0) found.push(`the peer saw no packet from ${missing.join(', ')}`);
  for (const [address, spis] of Object.entries(peer.spisByAddress)) {
    const blocks = devices.filter(({ lease }) => lease.address === address).map(({ lease }) => lease.spis);
    // A whole address leases every SPI with it.
    if (blocks.some((block) => block === null)) continue;
    const outside = spis.filter(
      (spi) =>
        !blocks.some((block) => block !== null && spi >= block.first && spi < block.first + block.count),
    );
    if (outside.length > 0) found.push(`SPIs ${outside.join(', ')} to ${address} are in no leased block`);
  }
  if (peer.ikeOrSaChanges !== 0)
    found.push(`${peer.ikeOrSaChanges} associations changed or IKE messages were sent, rekeys aside`);
  for (const { name } of devices) {
    for (const of of ['child', 'ike'] as const) {
      if (!peer.rekeys.some((rekey) => rekey.device === name && rekey.of === of))
        found.push(`${name}: no rekey of its ${of} association while it moved`);
    }
  }
  return found;
}
