import { randomBytes } from 'node:crypto';
import { MooringError } from '../../src/protocol/errors.ts';
import type { Log } from '../../src/telemetry/log.ts';
import type { Device, HeldLease } from '../sdk/device.ts';
import type { LaptopConfig } from './config.ts';
import { readHeldLease, type StateDir, writeHeldLease } from './state-dir.ts';

type LeaseConfig = Pick<LaptopConfig, 'pool' | 'kind' | 'leaseMs' | 'ports' | 'remote'>;

/** The device does not hold it (any more): RSIP BAD_BIND_ID. */
const BAD_BIND_ID = 306;

/**
 * The lease that this device held before it stopped or crashed, or else a new one. A wish is on the disk before
 * it is sent, so a crash between the wish and its answer does not cost a second lease.
 */
export async function obtainLease(
  device: Device,
  config: LeaseConfig,
  state: StateDir,
  log: Log,
): Promise<HeldLease> {
  const stored = readHeldLease(state);
  const record = stored?.pool === config.pool && stored.kind === config.kind ? stored : null;
  if (stored !== null && record === null) await giveBack(device, stored.lease, log);
  if (record !== null) {
    const held = await resume(device, record, log);
    if (held !== null) return keep(held, record.request);
  }
  const request = randomBytes(16).toString('hex');
  writeHeldLease(state, { request, pool: config.pool, kind: config.kind, lease: null });
  return keep(await device.lease(wish(request, config)), request);

  async function keep(held: HeldLease, under: string): Promise<HeldLease> {
    const { pool, kind } = config;
    writeHeldLease(state, { request: under, pool, kind, lease: held.lease.id });
    await widen(held, config.ports, log);
    return held;
  }

  async function resume(from: Device, held: NonNullable<typeof record>, to: Log): Promise<HeldLease | null> {
    try {
      return held.lease === null
        ? await from.lease(wish(held.request, config))
        : await from.attach(held.lease, config.leaseMs);
    } catch (error) {
      if (!(error instanceof MooringError)) throw error;
      const over = error.rsip === BAD_BIND_ID || error.code.startsWith('ERR_MOORING_REQUEST_');
      if (!over) throw error;
      to.warn({ lease: held.lease, code: error.code }, 'the former lease is gone: asking for a new one');
      return null;
    }
  }
}

function wish(request: string, { pool, kind, leaseMs, remote }: LeaseConfig) {
  return {
    request,
    pool,
    kind,
    ...(leaseMs === undefined ? {} : { leaseMs }),
    ...(remote === undefined ? {} : { remote: { address: remote.address, port: remote.port ?? null } }),
  };
}

/** A lease with fewer ports than wished for is better than none. */
async function widen(held: HeldLease, ports: number | undefined, log: Log): Promise<void> {
  const { id, ports: has } = held.lease;
  if (ports === undefined || has === null || has.count >= ports) return;
  try {
    await held.widen(ports);
  } catch (error) {
    if (!(error instanceof MooringError)) throw error;
    log.warn({ lease: id, wished: ports, has: has.count, code: error.code }, 'no more ports');
  }
}

/** The configuration names another pool or kind now: the old lease is of no use to anybody. */
async function giveBack(device: Device, lease: string | null, log: Log): Promise<void> {
  if (lease === null) return;
  try {
    await (await device.attach(lease)).free();
  } catch (error) {
    log.warn(
      { lease, error: error instanceof Error ? error.message : String(error) },
      'the former lease was not given back; it ends by itself',
    );
  }
}
