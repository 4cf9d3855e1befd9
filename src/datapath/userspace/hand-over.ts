import { socketAddress } from '../../protocol/address.ts';
import { badInput } from '../../protocol/errors.ts';
import type { PathHint } from '../../protocol/lease.ts';
import type { SessionState } from '../../protocol/relay-plane.ts';
import type { PathHinted, RelayRebindingState } from '../../rebinding/relay-io.ts';
import type { DataKeyName } from '../../tunnel/keys.ts';
import { ReplayWindow, type WindowState } from '../../tunnel/window.ts';
import type { RelaySession } from './session.ts';

/** A session's state as another relay continues it; null when no device proved itself yet. Keys are named, not sent. */
export function exportSession(session: RelaySession): SessionState | null {
  const state = session.rebinding.exportState();
  const { sending } = session;
  if (state === null || sending === null) return null;
  const { name, sender } = sending;
  const [slow, ...others] = session.receiver.windows(name.keyNumber) ?? [];
  const fast = session.fast?.window(name.keyNumber) ?? null;
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
      fastSequence: session.fast?.nextSequence(name.keyNumber) ?? sending.fastSequence,
      windows: slow === undefined ? [] : [fast === null ? slow : union(slow, fast), ...others],
    },
  };
}

/** What a session goes on with: the state of its rebinds, and the name of the DATA key in use. */
export interface Resumed {
  readonly rebinding: RelayRebindingState;
  readonly key: DataKeyName;
}

/** Reads a session's state. Throws ERR_MOORING_BAD_INPUT naming the field that has not its form. */
export function readState(state: SessionState): Resumed {
  const { active, generation, rttMs, control, data } = state;
  const deviceBoot = boot('deviceBoot', state.deviceBoot);
  const { keyNumber } = data;
  if (!/^[0-9]{1,20}$/.test(data.epoch)) throw badInput('data.epoch', data.epoch, 'use a decimal number');
  return {
    rebinding: {
      active: active === null ? null : socketAddress(active.address, active.port, 'active'),
      generation,
      deviceBoot,
      keyNumber,
      rttMs,
      control,
    },
    key: {
      epoch: BigInt(data.epoch),
      relayBoot: boot('data.relayBoot', data.relayBoot),
      deviceBoot,
      keyNumber,
    },
  };
}

/** A hint of the registry, for the state machine. */
export function readHint({ address, port, generation, deviceBoot }: PathHint): PathHinted {
  const path = { address, port, key: `${address}|${port}` };
  return { path, generation, deviceBoot: BigInt(`0x${deviceBoot}`) };
}

/** What either engine received. */
function union(one: WindowState, other: WindowState): WindowState {
  const window = ReplayWindow.import(one);
  window.merge(other);
  return window.export();
}

function boot(field: string, text: string): bigint {
  if (!/^[0-9a-f]{16}$/.test(text)) throw badInput(field, text, 'use 16 hexadecimal digits');
  return BigInt(`0x${text}`);
}

function hex64(value: bigint): string {
  return value.toString(16).padStart(16, '0');
}
