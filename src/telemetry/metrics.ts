import { Counter, Gauge, Registry } from 'prom-client';
import { MooringError, RSIP_ERRORS } from '../protocol/errors.ts';

/** The program's metrics, in Prometheus' text format. Labels are bounded: direction, reason, anchor, pool. */
export interface Metrics {
  readonly registry: Registry;
  readonly packets: Gauge<'direction' | 'verdict'>;
  readonly rebinds: Counter<'anchor' | 'old_path'>;
  readonly anchors: Gauge;
  readonly leases: Gauge<'pool'>;
  readonly ownership: Counter<'change'>;
  readonly sockets: Gauge;
  readonly requests: Counter<'request' | 'answer'>;
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
    leases: new Gauge({
      name: 'mooring_leases',
      help: 'Leases that this relay carries, by pool',
      labelNames: ['pool'],
      registers,
    }),
    ownership: new Counter({
      name: 'mooring_ownership_changes_total',
      help: 'Anchors that this relay began to own (taken-over: of those, from a lost owner), lost, or heard nothing of until the deadline',
      labelNames: ['change'],
      registers,
    }),
    sockets: new Gauge({
      name: 'mooring_signalling_sockets',
      help: 'WebSockets of devices that are open here',
      registers,
    }),
    requests: new Counter({
      name: 'mooring_requests_total',
      help: 'Requests of devices, by kind and answer: ok, the RSIP name of the refusal, or temporary, refused, failed where there is none',
      labelNames: ['request', 'answer'],
      registers,
    }),
  };
}

/** The answer to a request as a label: one of some forty words, whatever the error says. */
export function answerLabel(error: unknown): string {
  if (error === null) return 'ok';
  if (!(error instanceof MooringError)) return 'failed';
  if (error.rsip !== undefined) return RSIP_ERRORS[error.rsip];
  return error.temporary ? 'temporary' : 'refused';
}
