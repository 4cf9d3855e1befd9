import { readFileSync } from 'node:fs';
import { MooringError } from '../../protocol/errors.ts';

/** The program beside this file in `dist`, and from `src` where the build puts it. */
const PLACES = ['./relay.bpf.o', '../../../dist/src/datapath/xdp/relay.bpf.o'];

/** The octets of the compiled XDP program. Throws ERR_MOORING_XDP_UNAVAILABLE when it was not built. */
export function readXdpObject(): Uint8Array {
  for (const place of PLACES) {
    try {
      return readFileSync(new URL(place, import.meta.url));
    } catch {
      // the other place
    }
  }
  throw new MooringError(
    'ERR_MOORING_XDP_UNAVAILABLE',
    'the XDP program was not built; install clang and libbpf-dev and run npm run setup, or use the userspace engine',
  );
}
