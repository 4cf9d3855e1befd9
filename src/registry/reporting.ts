import { askAnchor } from './asking.ts';
import { type Argument, type Connection, isRefused } from './connection.ts';
import { holdMs } from './hold.ts';
import { anchorKeys } from './keys.ts';
import { leaseText, sessionText } from './records.ts';
import { refusalError } from './refusals.ts';
import type { OwnersReport, Registry } from './registry.ts';

/** Leases that one script takes: what else Redis has to do waits for a millisecond or two. */
const TOLD_AT_ONCE = 64;
/** Leases that one script brings back or ends: the same. */
const RESTORED_AT_ONCE = 32;

/** How a quarantine ends: what an owner says that it holds is told in pieces, and brought back in pieces. */
export function reportCommands(connection: Connection): Pick<Registry, 'report' | 'claim' | 'bringBack'> {
  /** Asks until the answer is one: meanwhile what the registry wants first is done. */
  async function ask(
    command: 'report' | 'claim',
    anchor: string,
    args: readonly Argument[],
    tell: () => Promise<void>,
  ): Promise<{ readonly epoch: bigint }> {
    for (;;) {
      const answer = await connection.run(command, anchorKeys(anchor), args);
      if (!isRefused(answer)) return { epoch: BigInt(answer as string) };
      if (answer.refused === 'UNTOLD') await tell();
      else if (answer.refused === 'RESTORING') await restore(anchor);
      else throw refusalError(answer.refused, `anchor ${anchor}`, { data: { anchor } });
    }
  }

  async function restore(anchor: string): Promise<void> {
    for (let more = 1; more === 1; ) {
      more = (await askAnchor(connection, 'restore', anchor, [RESTORED_AT_ONCE])) as number;
    }
  }

  async function tell(anchor: string, report: OwnersReport): Promise<void> {
    const { relay, boot, epoch, counter, leases, sessions } = report;
    const told = [
      ...sessions.map((session) => nameAndRest(sessionText(session))),
      ...leases.map((lease) => [lease.id.slice(anchor.length + 1), leaseText(lease)] as const),
    ];
    for (let at = 0; at === 0 || at < told.length; at += TOLD_AT_ONCE) {
      const isLast = at + TOLD_AT_ONCE >= told.length ? 1 : 0;
      const some = told.slice(at, at + TOLD_AT_ONCE).flat();
      await askAnchor(connection, 'tell', anchor, [relay, boot, epoch, counter, isLast, ...some]);
    }
  }

  return {
    report(anchor, report, ttlMs) {
      const { relay, boot, epoch, counter, hasStandby, plan = '', as = 'owner' } = report;
      const args = [relay, boot, epoch, counter, holdMs(ttlMs), hasStandby ? 1 : 0, plan, as];
      return ask('report', anchor, args, () => tell(anchor, report));
    },

    claim(anchor, relay, boot, ttlMs, force = false, knownEpoch = 0n) {
      const args = [relay, boot, holdMs(ttlMs), force ? 1 : 0, knownEpoch];
      return ask('claim', anchor, args, async () => undefined);
    },

    async bringBack(anchor, { epoch, counter, leases, sessions }) {
      const say = (isLast: 0 | 1, some: readonly string[] = []) =>
        askAnchor(connection, 'bring_back', anchor, [epoch, counter, isLast, ...some]);
      if ((await say(0)) === 0) return false;
      const records = new Map(sessions.map((session) => [session.id, nameAndRest(sessionText(session))[1]]));
      const told = leases
        .filter(({ state, session }) => state === 'active' && records.has(session))
        .map((lease) => [leaseText(lease), records.get(lease.session) as string]);
      for (let at = 0; at < told.length; at += RESTORED_AT_ONCE)
        await say(0, told.slice(at, at + RESTORED_AT_ONCE).flat());
      await say(1);
      return true;
    },
  };
}

function nameAndRest(text: string): readonly [string, string] {
  const space = text.indexOf(' ');
  return [text.slice(0, space), text.slice(space + 1)];
}
