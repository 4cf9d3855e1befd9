import type { HeaderChange, StoryDevice } from './device.ts';
import type { Tamper } from './story.ts';
import { joined } from './traffic.ts';

/** What of a datagram is another before it is sealed. */
export function headerChange(tamper: Tamper | null, device: StoryDevice): HeaderChange {
  switch (tamper?.kind) {
    case 'fast-lane':
      return { lane: 1 };
    case 'skip':
      return { skip: tamper.by };
    case 'later':
      return { skip: tamper.skip };
    case 'old-key':
      return { keyNumber: device.keyNumber - 1 };
    default:
      return {};
  }
}

/** The same datagram, changed on its way. */
export function tampered(sealed: Uint8Array, tamper: Tamper | null): Uint8Array {
  switch (tamper?.kind) {
    case 'flip': {
      const copy = sealed.slice();
      copy[tamper.at % copy.length]! ^= tamper.bits;
      return copy;
    }
    case 'first': {
      const copy = sealed.slice();
      copy[0]! ^= tamper.bits;
      return copy;
    }
    case 'cut':
      return sealed.slice(0, Math.max(0, sealed.length - tamper.octets));
    case 'longer':
      return joined(sealed, new Uint8Array(tamper.octets));
    default:
      return sealed;
  }
}
