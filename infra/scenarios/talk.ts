/** TCP between hosts of a scenario by ordinary sockets: who listens, who talks, and how it went. */
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { controlChannel } from '../lab/control-channel.ts';
import type { Lab, Namespace } from '../lab/lab.ts';
import { nodeCommand } from '../lab/node-command.ts';
import type { End, TalkCommand, TalkPlan, TalkReport } from './talk-program.ts';

export interface Talk {
  report(): Promise<TalkReport>;
  /** Silence and answers are counted from now on. */
  mark(): Promise<void>;
  /** Resolves with the report that `accept` likes, or the last one after `withinMs`. */
  until(accept: (report: TalkReport) => boolean, withinMs: number): Promise<TalkReport>;
}

const EXTENSION = import.meta.url.endsWith('.ts') ? 'ts' : 'js';
const PROGRAM = fileURLToPath(new URL(`talk-program.${EXTENSION}`, import.meta.url));

/** Sends back what is sent to it. Resolves when it listens. */
export function listen(lab: Lab, namespace: Namespace, at: End): Promise<Talk> {
  return start(lab, namespace, { role: 'listen', at });
}

/** A session from each of `from`, with a numbered line every `everyMs` (default 20). */
export function talk(
  lab: Lab,
  namespace: Namespace,
  to: End,
  from: readonly End[],
  everyMs = 20,
): Promise<Talk> {
  return start(lab, namespace, { role: 'talk', to, from, everyMs });
}

async function start(lab: Lab, namespace: Namespace, plan: TalkPlan): Promise<Talk> {
  const label = `${plan.role} ${namespace}`;
  const program = await lab.spawn(namespace, nodeCommand(PROGRAM, JSON.stringify(plan)), {
    label,
    control: true,
  });
  const { request } = controlChannel<TalkCommand>(label, program.control!);
  const report = async () => (await request({ op: 'report' })) as TalkReport;
  await report();
  return {
    report,
    async mark() {
      await request({ op: 'mark' });
    },
    async until(accept, withinMs) {
      const deadlineMs = performance.now() + withinMs;
      for (;;) {
        const now = await report();
        if (accept(now) || performance.now() > deadlineMs) return now;
        await delay(50);
      }
    },
  };
}
