import type { Btf } from '../../linux/btf.ts';
import { formatAddress, socketAddress } from '../../protocol/address.ts';
import { UPLINK_DROPS, type UplinkDrop } from '../decision/verdict.ts';
import type { FastListener } from '../fast-path.ts';
import { countNames } from './counts.ts';
import { plainAddress } from './index-map.ts';

/** Whoever is at a slot, with the session index that an event must name to be meant for him. */
export interface EventTarget {
  readonly listener: FastListener;
  readonly spec: { readonly index: number };
}

/** Reads the program's events: hints, each to the session that it is about. */
export class Events {
  readonly #target: (slot: number) => EventTarget | undefined;
  readonly #kinds: ReadonlyMap<number, string>;
  readonly #uplinkNames: readonly string[];
  readonly #at: Readonly<
    Record<
      | 'kind'
      | 'slot'
      | 'index'
      | 'keyNumber'
      | 'octets'
      | 'spi'
      | 'source'
      | 'destination'
      | 'port'
      | 'protocol'
      | 'reason',
      number
    >
  >;

  constructor(btf: Btf, target: (slot: number) => EventTarget | undefined) {
    this.#target = target;
    const event = btf.struct('event');
    const at = (member: string) => event.at(member).offset;
    this.#kinds = new Map([...btf.enumeration('event_kind')].map(([name, number]) => [number, name]));
    this.#uplinkNames = countNames(btf, 'uplink');
    this.#at = {
      kind: at('kind'),
      slot: at('slot'),
      index: at('index'),
      keyNumber: at('key_number'),
      octets: at('octets'),
      spi: at('spi'),
      source: at('source'),
      destination: at('destination'),
      port: at('port'),
      protocol: at('protocol'),
      reason: at('reason'),
    };
  }

  take(record: DataView, nowMs: number): void {
    const u32 = (at: number) => record.getUint32(at, true);
    const at = this.#at;
    const target = this.#target(u32(at.slot));
    // The slot may have been given to another session since.
    if (target === undefined || target.spec.index !== u32(at.index)) return;
    const { listener } = target;
    switch (this.#kinds.get(u32(at.kind))) {
      case 'EVENT_STRAY':
        listener.fastData(this.#source(record), u32(at.keyNumber), u32(at.octets), nowMs);
        return;
      case 'EVENT_REFUSED':
        listener.fastRefused(this.#source(record), u32(at.octets), nowMs);
        return;
      case 'EVENT_NOTICE': {
        const code = UPLINK_DROPS[this.#uplinkNames[record.getUint8(at.reason)] as UplinkDrop] ?? 0;
        if (code !== 0) listener.fastNotice(code, nowMs);
        return;
      }
      case 'EVENT_REKEY':
        listener.fastRekey(u32(at.keyNumber), nowMs);
        return;
      case 'EVENT_LEARNED':
        listener.fastFlow(
          {
            address: this.#address(record, at.source),
            peer: this.#address(record, at.destination),
            protocol: record.getUint8(at.protocol),
            spi: u32(at.spi),
          },
          nowMs,
        );
        return;
      default:
      // A kind that a newer program reports and this process does not know: only a hint is lost.
    }
  }

  #source(record: DataView) {
    const address = formatAddress(this.#address(record, this.#at.source));
    return socketAddress(address, record.getUint16(this.#at.port, true));
  }

  #address(record: DataView, at: number): Uint8Array {
    return plainAddress(new Uint8Array(record.buffer, record.byteOffset + at, 16).slice());
  }
}
