import { type BpfMap, mapMemory } from './bpf-map.ts';

const PAGE = 4096;
const BUSY = 0x80000000;
const DISCARDED = 0x40000000;
const LENGTH = 0x3fffffff;
/** Length and page offset, in front of every record. */
const HEADER = 8;

/** The reading end of a BPF ring buffer. One reader at a time, in whatever thread or process. */
export interface RingBuffer {
  /** Readable in poll(2) when there is a record. */
  readonly fd: number;
  /**
   * Takes up to `most` records, oldest first; `each` gets a record in place: it is overwritten after the call returns.
   * Returns how many were taken.
   */
  drain(each: (record: DataView) => void, most?: number): number;
}

/** Opens a BPF_MAP_TYPE_RINGBUF for reading; the map stays the caller's. Goes on where an earlier reader stopped. */
export function openRingBuffer(map: BpfMap): RingBuffer {
  const size = map.info.maxEntries;
  const object = `ring buffer ${map.info.name}`;
  const consumer = new BigUint64Array(mapMemory(map.fd, PAGE, object));
  // The producer's page, then the data twice in a row: no record is ever in two pieces.
  const memory = mapMemory(map.fd, PAGE + 2 * size, object, { readOnly: true, offset: PAGE });
  const producer = new BigUint64Array(memory, 0, 1);
  const headers = new Int32Array(memory, PAGE);
  const mask = size - 1;
  return {
    fd: map.fd,
    drain(each, most = Number.MAX_SAFE_INTEGER) {
      let at = Number(consumer[0]!);
      let taken = 0;
      const end = Number(Atomics.load(producer, 0));
      while (at < end && taken < most) {
        const offset = at & mask;
        const header = Atomics.load(headers, offset >> 2);
        if ((header & BUSY) !== 0) break;
        const length = header & LENGTH;
        if ((header & DISCARDED) === 0) {
          each(new DataView(memory, PAGE + offset + HEADER, length));
          taken += 1;
        }
        at += HEADER + ((length + 7) & ~7);
        Atomics.store(consumer, 0, BigInt(at));
      }
      return taken;
    },
  };
}
