import { expect, test } from 'vitest';
import { MooringError } from '../../../src/protocol/errors.ts';
import { answerLabel, createMetrics } from '../../../src/telemetry/metrics.ts';

test.each<[string, unknown]>([
  ['ok', null],
  ['BAD_BIND_ID', new MooringError('ERR_MOORING_BAD_BIND', 'no such lease', { rsip: 306 })],
  ['LOCAL_ADDRPORT_UNAVAILABLE', new MooringError('ERR_MOORING_X', 'none', { rsip: 309, temporary: true })],
  ['temporary', new MooringError('ERR_MOORING_NO_OWNER', 'none', { temporary: true })],
  ['refused', new MooringError('ERR_MOORING_STALE', 'old')],
  ['failed', new Error('a stranger’s text')],
])('an answer is counted as %s', async (label, error) => {
  const metrics = createMetrics();
  metrics.requests.inc({ request: 'lease', answer: answerLabel(error) });
  expect(await metrics.registry.metrics()).toContain(
    `mooring_requests_total{request="lease",answer="${label}"} 1`,
  );
});
