import { formatAddress } from '../../protocol/address.ts';
import type { SessionState } from '../../protocol/relay-plane.ts';
import type { Elements } from './elements.ts';
import { plainAddress } from './index-map.ts';
import type { ReplayWindows } from './replay-windows.ts';
import type { SessionLayout } from './session-layout.ts';

/**
 * A session as a former process left it, to be continued as after a planned hand-over; null when no way was known. The
 * keys are named: whoever may continue it can derive them.
 */
export function stateOf(
  slot: number,
  layout: SessionLayout,
  sessions: Elements,
  ways: Elements,
  windows: ReplayWindows,
): SessionState | null {
  const { session, receive, path, way, wayState } = layout;
  const [sessionAt, wayAt] = [sessions.base(slot), ways.base(slot)];
  const pathAt = wayAt + way.paths[Number(ways.u64(wayAt + way.gen) & 1n) as 0 | 1];
  const family = ways.octets[pathAt + path.family];
  if (family === 0 || ways.u32(wayAt + way.state) === wayState.none) return null;
  const keyNumber = ways.u32(pathAt + path.keyNumber);
  const received = receive.places
    .map((offset) => sessionAt + offset)
    .find(
      (at) => sessions.u32(at + receive.keyNumber) === keyNumber && sessions.u64(at + receive.untilNs) !== 0n,
    );
  const address = plainAddress(ways.get(pathAt + path.address, 16));
  const lastSequence = ways.u32(wayAt + way.lastSequence[keyNumber & (way.lastSequence.length - 1)]!);
  return {
    id: Buffer.from(sessions.get(sessionAt + session.id, 16)).toString('hex'),
    deviceBoot: hex64(sessions.u64(sessionAt + session.deviceBoot)),
    generation: sessions.u32(sessionAt + session.generation),
    active: { address: formatAddress(address), port: ways.view.getUint16(pathAt + path.port, true) },
    rttMs: sessions.u32(sessionAt + session.rttUs) / 1000,
    // Whatever was said to the former incarnation means nothing to this one.
    control: { highest: '0', bitmap: '' },
    data: {
      epoch: sessions.u64(sessionAt + session.epoch).toString(),
      relayBoot: hex64(sessions.u64(sessionAt + session.relayBoot)),
      keyNumber,
      nextSequence: Math.max(1, sessions.u32(sessionAt + session.slowSequence)),
      fastSequence: lastSequence + 1,
      windows: received === undefined ? [] : [windows.read(sessions.u32(received + receive.window))],
    },
  };
}

function hex64(value: bigint): string {
  return value.toString(16).padStart(16, '0');
}
