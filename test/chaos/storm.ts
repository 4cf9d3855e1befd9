import type { RedisShape } from '../../infra/lab/redis-shapes.ts';
import { type Checked, check } from './checker.ts';
import { breakThings } from './faults.ts';
import { type Report, reportOf, textOf } from './report.ts';
import { soon, startWorld } from './world.ts';

/** How far past its end a lease may be forwarded, when nothing is broken: a sweep, and a busy machine. */
const LATE_MS = 1_000;
/** The same while the registry could not say: owners stretch what they hold. */
const OUTAGE_LATE_MS = 3_600_000;
/** How often the registry is asked what it has lost, milliseconds: its streams go back further than that. */
const AUDIT_EVERY_MS = 8_000;
const DEVICES = 20;
const PROCESSES = 2;

export interface Storm {
  readonly checked: Checked;
  readonly report: Report;
  /** For a failure: what was broken when, and where the history lies. */
  readonly told: string;
}

/** Breaks things for so long while devices work, mends everything, and checks what has happened. */
export async function storm(
  name: string,
  started: Promise<RedisShape>,
  seed: number,
  forMs: number,
): Promise<Storm> {
  const shape = await started;
  const world = await startWorld(shape).catch(async (error: unknown) => {
    await shape.stop();
    throw error;
  });
  let keep = true;
  try {
    await world.startDevices(DEVICES, PROCESSES, seed);
    // Where no primary is found now, the next time does.
    const auditing = setInterval(() => void world.audit().catch(() => undefined), AUDIT_EVERY_MS);
    const faults = await breakThings(world, seed, forMs).finally(() => clearInterval(auditing));
    await soon('every server is up and in step', () => shape.settled().then(() => true));
    await world.stopDevices();
    await world.conclude();
    await world.audit();
    const history = world.history();
    const { coolingMs, folder } = world.scene;
    const checked = check(history, { coolingMs, lateMs: LATE_MS, outageLateMs: OUTAGE_LATE_MS });
    const report = reportOf(history, checked);
    process.stderr.write(`${name}, seed ${seed}: ${textOf(report, checked)}\n`);
    keep = checked.violations.length > 0;
    return { checked, report, told: `seed ${seed}, history in ${folder}\n${faults.join('\n')}` };
  } finally {
    await world.stop(keep);
    await shape.stop();
  }
}
