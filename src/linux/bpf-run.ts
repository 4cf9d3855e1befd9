import { checkBpf, libbpf } from './libbpf.ts';
import { allocate, memoryAddress } from './libc.ts';

/** XDP's verdicts by number. */
export const XDP_VERDICTS = ['aborted', 'drop', 'pass', 'tx', 'redirect'] as const;
export type XdpVerdict = (typeof XDP_VERDICTS)[number];

/** What became of a frame. */
export interface XdpRun {
  readonly verdict: XdpVerdict;
  /** The frame as the program left it; valid until the next run. */
  readonly frame: Uint8Array;
  /** Mean of all repetitions, nanoseconds. */
  readonly ns: number;
}

/** Runs an XDP program on frames without an interface. */
export interface XdpRunner {
  /**
   * One frame (14 octets to about 3,500), as if it had come in on interface `ifindex` of this network namespace
   * (default: loopback). `repeat` runs it that often, from the second on with what the first left of it: of use only
   * for programs that leave frames as they were, and for `ns`.
   */
  run(frame: Uint8Array, options?: { readonly ifindex?: number; readonly repeat?: number }): XdpRun;
}

const LARGEST = 8192;

/** A runner of the XDP program behind a descriptor (BPF_PROG_TEST_RUN). */
export function createXdpRunner(programFd: number): XdpRunner {
  const into = allocate(LARGEST);
  const from = allocate(LARGEST);
  const options = allocate(80);
  // struct xdp_md: data data_end data_meta ingress_ifindex rx_queue_index egress_ifindex
  const context = allocate(24);
  const view = new DataView(options.buffer);
  const contextView = new DataView(context.buffer);
  const addresses = {
    into: BigInt(memoryAddress(into)),
    from: BigInt(memoryAddress(from)),
    context: BigInt(memoryAddress(context)),
  };
  return {
    run(frame, { ifindex = 0, repeat = 1 } = {}) {
      from.set(frame);
      options.fill(0);
      // struct bpf_test_run_opts: sz data_in data_out sizes ctx_in ctx_out sizes retval repeat duration …
      view.setBigUint64(0, 80n, true);
      view.setBigUint64(8, addresses.from, true);
      view.setBigUint64(16, addresses.into, true);
      view.setUint32(24, frame.length, true);
      view.setUint32(28, LARGEST, true);
      if (ifindex !== 0) {
        context.fill(0);
        contextView.setUint32(4, frame.length, true);
        contextView.setUint32(12, ifindex, true);
        view.setBigUint64(32, addresses.context, true);
        view.setUint32(48, context.length, true);
      }
      view.setInt32(60, repeat, true);
      const result = libbpf().programTestRun(programFd, options);
      checkBpf('bpf_prog_test_run', `a frame of ${frame.length} octets`, result);
      return {
        verdict: XDP_VERDICTS[view.getUint32(56, true)] ?? 'aborted',
        frame: into.subarray(0, view.getUint32(28, true)),
        ns: view.getUint32(64, true),
      };
    },
  };
}
