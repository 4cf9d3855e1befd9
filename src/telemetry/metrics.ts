import { Counter, Gauge, Registry } from 'prom-client';

/** The program's metrics, in Prometheus' text format. Labels are bounded: direction, reason, anchor. */
export interface Metrics {
  readonly registry: Registry;
  readonly packets: Gauge<'direction' | 'verdict'>;
  readonly rebinds: Counter<'anchor' | 'old_path'>;
  readonly anchors: Gauge;
}

export function createMetrics(): Metrics {
  const registry = new Registry();
  const registers = [registry];
  return {
    registry,
    packets: new Gauge({
      name: 'mooring_packets',
      help: 'Packets since the packet engine started, by direction and verdict',
      labelNames: ['direction', 'verdict'],
      registers,
    }),
    rebinds: new Counter({
      name: 'mooring_rebinds_total',
      help: 'Paths proven, by anchor and by what the device said of its old path',
      labelNames: ['anchor', 'old_path'],
      registers,
    }),
    anchors: new Gauge({ name: 'mooring_anchors', help: 'Anchors that this relay serves', registers }),
  };
}
