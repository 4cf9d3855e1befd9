import type { Btf } from '../../linux/btf.ts';
import { type LeaseLayout, leaseLayout } from './lease-places.ts';

/** Where everything is that the process writes about a session, by the names in layout.h. */
export interface SessionLayout {
  readonly session: {
    readonly state: number;
    readonly index: number;
    readonly anchor: number;
    readonly controlKey: number;
    readonly id: number;
    readonly deviceBoot: number;
    readonly relayBoot: number;
    readonly epoch: number;
    readonly slowSequence: number;
    readonly generation: number;
    readonly rttUs: number;
  };
  readonly receive: {
    readonly places: readonly number[];
    readonly version: number;
    readonly keyNumber: number;
    readonly untilNs: number;
    readonly key: number;
    readonly window: number;
  };
  readonly lease: LeaseLayout;
  readonly way: {
    readonly gen: number;
    readonly paths: readonly [number, number];
    readonly holdUntilNs: number;
    readonly state: number;
    readonly lastSequence: readonly number[];
  };
  readonly path: {
    readonly address: number;
    readonly key: number;
    readonly keyNumber: number;
    readonly port: number;
    readonly family: number;
    readonly size: number;
  };
  readonly state: { readonly empty: number; readonly live: number };
  readonly wayState: { readonly none: number; readonly active: number; readonly hold: number };
}

export function sessionLayout(btf: Btf): SessionLayout {
  const [session, receive, way, path] = [
    btf.struct('session'),
    btf.struct('receive_key'),
    btf.struct('way'),
    btf.struct('path'),
  ];
  const [states, wayStates] = [btf.enumeration('session_state'), btf.enumeration('way_state')];
  const receiving = session.at('receive');
  const sequences = way.at('last_sequence');
  return {
    session: {
      state: session.at('state').offset,
      index: session.at('index').offset,
      anchor: session.at('anchor').offset,
      controlKey: session.at('control_key').offset,
      id: session.at('id').offset,
      deviceBoot: session.at('device_boot').offset,
      relayBoot: session.at('relay_boot').offset,
      epoch: session.at('epoch').offset,
      slowSequence: session.at('slow_sequence').offset,
      generation: session.at('generation').offset,
      rttUs: session.at('rtt_us').offset,
    },
    receive: {
      places: Array.from({ length: receiving.count }, (_, i) => receiving.offset + i * receiving.stride),
      version: receive.at('version').offset,
      keyNumber: receive.at('key_number').offset,
      untilNs: receive.at('until_ns').offset,
      key: receive.at('key').offset,
      window: receive.at('window').offset,
    },
    lease: leaseLayout(btf),
    way: {
      gen: way.at('gen').offset,
      paths: [way.at('paths[0]').offset, way.at('paths[1]').offset],
      holdUntilNs: way.at('hold_until_ns').offset,
      state: way.at('state').offset,
      lastSequence: Array.from(
        { length: sequences.count },
        (_, i) => sequences.offset + i * sequences.stride,
      ),
    },
    path: {
      address: path.at('address').offset,
      key: path.at('key').offset,
      keyNumber: path.at('key_number').offset,
      port: path.at('port').offset,
      family: path.at('family').offset,
      size: path.size,
    },
    state: { empty: states.get('SESSION_EMPTY')!, live: states.get('SESSION_LIVE')! },
    wayState: {
      none: wayStates.get('WAY_NONE')!,
      active: wayStates.get('WAY_ACTIVE')!,
      hold: wayStates.get('WAY_HOLD')!,
    },
  };
}
