import { bootTimeNs } from '../../linux/boot-time.ts';
import { waitGracePeriod } from '../../linux/grace-period.ts';
import { interfaceIndex } from '../../linux/libc.ts';
import type { TunnelMarking } from '../../tunnel/dscp-ecn.ts';
import { REKEY_AFTER_PACKETS } from '../../tunnel/wire.ts';
import type { EngineStatus } from '../engine-api.ts';
import type { AskGrace } from './grace.ts';
import type { ProgramRate, XdpMirror } from './mirror.ts';
import { type OpenXdp, openXdp, removeXdp, type XdpSettings } from './open.ts';
import { ALIVE_EVERY_MS } from './program-config.ts';

/** `auto`: where it is possible. `required`: or not at all. `off`: what a former process left is taken away. */
export type XdpWish = XdpSettings & { readonly wish: 'auto' | 'required' | 'off' };

/** The fast engine of a packet thread, where there is one. */
export interface FastEngine {
  readonly mirror: XdpMirror | null;
  readonly status: EngineStatus;
  /** False for an interface whose packets it does not see. */
  sees(ifindex: number): boolean;
  /** When `tick` is due; Infinity without XDP. */
  nextDueMs(): number;
  tick(nowMs: number): void;
  /** `forget`: nothing goes on forwarding, and nothing stays pinned. */
  close(forget: boolean): void;
}

/** The next DATA key is announced this long before the one in use is worn out. */
const REKEY_MARGIN_PACKETS = 2 ** 20;
/** Where the kernel knows no membarrier, a packet is taken to be through after this time. */
const GRACE_INSTEAD_MS = 100;

/** Opens XDP as wished. Throws why it is not possible when it is required; else the status says so. */
export function openFastEngine(
  wish: XdpWish | null,
  options: {
    readonly tunnelPort: number;
    readonly innerMtu: number;
    readonly marking: TunnelMarking;
    readonly rates: { readonly uplink: ProgramRate | null; readonly downlink: ProgramRate | null };
    readonly askGrace: AskGrace;
  },
): FastEngine {
  if (wish === null) return withoutXdp([]);
  if (wish.wish === 'off') {
    removeXdp(wish);
    return withoutXdp([]);
  }
  try {
    return withXdp(
      openXdp({
        settings: wish,
        ...options,
        rekeyAfter: REKEY_AFTER_PACKETS - REKEY_MARGIN_PACKETS,
        waitGrace,
      }),
      wish,
    );
  } catch (error) {
    if (wish.wish === 'required') throw error;
    const why = error instanceof Error ? error.message : String(error);
    return withoutXdp([`no XDP: ${why}`, ...removed(wish)]);
  }
}

/** What a former process left would go on forwarding by decisions that nobody keeps any more. */
function removed(wish: XdpWish): string[] {
  try {
    removeXdp(wish);
    return [];
  } catch (error) {
    return [`what a former process left in XDP is there still: ${String(error)}`];
  }
}

function withXdp(open: OpenXdp, wish: XdpWish): FastEngine {
  const { mirror, config, interfaces, notes } = open;
  const seen = new Set(interfaces.map(({ name }) => interfaceIndex(name)));
  let aliveMs = 0;
  return {
    mirror,
    status: { engine: 'xdp', interfaces, notes },
    sees: (ifindex) => seen.has(ifindex),
    nextDueMs: () => aliveMs,
    tick(nowMs) {
      if (nowMs < aliveMs) return;
      aliveMs = nowMs + ALIVE_EVERY_MS;
      config.alive();
      mirror.sweep(bootTimeNs());
    },
    close(forget) {
      open.close();
      if (forget) removeXdp(wish);
    },
  };
}

function withoutXdp(notes: readonly string[]): FastEngine {
  return {
    mirror: null,
    status: { engine: 'userspace', interfaces: [], notes },
    sees: () => true,
    nextDueMs: () => Number.POSITIVE_INFINITY,
    tick() {},
    close() {},
  };
}

function waitGrace(): void {
  try {
    waitGracePeriod();
  } catch {
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, GRACE_INSTEAD_MS);
  }
}
