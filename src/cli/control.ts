import type { Control } from '../admin/control-socket.ts';
import type { Settings } from '../config/schema.ts';
import { MooringError } from '../protocol/errors.ts';
import type { Signalling } from '../signalling/signalling.ts';
import type { Metrics } from '../telemetry/metrics.ts';
import type { RunningRelay } from './relay-role.ts';
import type { Supervised } from './supervised.ts';

/** What the control socket of this process answers. */
export function createControl({
  settings,
  relay,
  signalling,
  metrics,
  supervised,
}: {
  readonly settings: Settings;
  readonly relay: RunningRelay | null;
  readonly signalling: () => Signalling | null;
  readonly metrics: Metrics;
  readonly supervised: Supervised;
}): Control {
  const { supervisor, restarts, lastEnd } = supervised.briefing;
  return {
    async status() {
      return {
        process: { pid: process.pid, supervisor, restarts, lastEnd },
        relay:
          settings.relay === undefined || relay === null
            ? null
            : { id: settings.relay.id, ...relay.engine.status },
        anchors: relay?.node.anchors() ?? [],
        signalling:
          settings.signalling === undefined
            ? null
            : { url: settings.signalling.url, sockets: signalling()?.sockets },
        packets: relay === null ? null : await relay.engine.command({ op: 'counters' }),
      };
    },
    async moveAnchor(anchor, to) {
      if (relay === null) {
        throw new MooringError(
          'ERR_MOORING_NOT_OWNER',
          'this process is no relay; ask the relay that owns the anchor',
        );
      }
      const { epoch, tookMs } = await relay.node.handOver(anchor, to);
      return { anchor, to, epoch: String(epoch), tookMs };
    },
    async metrics() {
      if (relay !== null) {
        const counters = await relay.engine.command({ op: 'counters' });
        for (const [direction, verdicts] of Object.entries(counters)) {
          for (const [verdict, count] of Object.entries(verdicts as Record<string, number>)) {
            metrics.packets.set({ direction, verdict }, count);
          }
        }
        metrics.anchors.set(relay.node.anchors().length);
      }
      return metrics.registry.metrics();
    },
  };
}
