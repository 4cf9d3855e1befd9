import type { Control } from '../admin/control-socket.ts';
import type { Settings } from '../config/schema.ts';
import type { Signalling } from '../signalling/signalling.ts';
import type { Metrics } from '../telemetry/metrics.ts';
import type { RunningRelay } from './relay-role.ts';
import type { Supervised } from './supervised.ts';

/** What this process says of itself. */
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
        standsByFor: relay?.node.standsByFor() ?? [],
        signalling:
          settings.signalling === undefined
            ? null
            : { url: settings.signalling.url, sockets: signalling()?.sockets },
        packets: relay === null ? null : await relay.engine.command({ op: 'counters' }),
      };
    },
    async metrics() {
      metrics.sockets.set(signalling()?.sockets ?? 0);
      if (relay !== null) {
        const counters = await relay.engine.command({ op: 'counters' });
        for (const [direction, verdicts] of Object.entries(counters)) {
          for (const [verdict, count] of Object.entries(verdicts as Record<string, number>)) {
            metrics.packets.set({ direction, verdict }, count);
          }
        }
        const anchors = relay.node.anchors();
        metrics.anchors.set(anchors.length);
        metrics.leases.reset();
        for (const { id } of anchors) {
          for (const { pool } of relay.node.held(id).leases) metrics.leases.inc({ pool });
        }
      }
      return metrics.registry.metrics();
    },
  };
}
