import { socketAddress } from '../../protocol/address.ts';
import { badInput } from '../../protocol/errors.ts';
import type { SessionState } from '../../protocol/relay-plane.ts';
import type { RelayRebindingState } from '../../rebinding/relay-io.ts';
import type { RelaySession } from './session.ts';

/** A session's state as another relay continues it; null when no device proved itself yet. Keys are named, not sent. */
export function exportSession(session: RelaySession): SessionState | null {
  const state = session.rebinding.exportState();
  const { sending } = session;
  if (state === null || sending === null) return null;
  const { name, sender } = sending;
  return {
    id: session.id,
    deviceBoot: hex64(state.deviceBoot),
    generation: state.generation,
    active: state.active === null ? null : { address: state.active.address, port: state.active.port },
    rttMs: state.rttMs,
    control: state.control,
    data: {
      epoch: name.epoch.toString(),
      relayBoot: hex64(name.relayBoot),
      keyNumber: name.keyNumber,
      nextSequence: sender.nextSequence,
      windows: [...(session.receiver.windows(name.keyNumber) ?? [])],
    },
  };
}

/** What the rebinding state machine goes on with. Throws ERR_MOORING_BAD_INPUT for an address that is none. */
export function resumedState(state: SessionState): RelayRebindingState {
  const { active, generation, rttMs, control, deviceBoot } = state;
  if (!/^[0-9a-f]{16}$/.test(deviceBoot))
    throw badInput('deviceBoot', deviceBoot, 'use 16 hexadecimal digits');
  return {
    active: active === null ? null : socketAddress(active.address, active.port, 'active'),
    generation,
    deviceBoot: BigInt(`0x${deviceBoot}`),
    keyNumber: state.data.keyNumber,
    rttMs,
    control,
  };
}

function hex64(value: bigint): string {
  return value.toString(16).padStart(16, '0');
}
