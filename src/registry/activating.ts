import type { Lease } from '../protocol/lease.ts';
import { askAnchor } from './asking.ts';
import type { Connection } from './connection.ts';
import { leaseFrom } from './records.ts';
import { type Refusal, refusalError, refusalIn } from './refusals.ts';
import type { Registry } from './registry.ts';

/** Leases that one script activates: a millisecond's work for Redis. */
const AT_ONCE = 64;

interface Batch {
  readonly ids: string[];
  /** In the order of `ids`. */
  readonly answers: Promise<readonly (Lease | Refusal)[]>;
}

/** What an owner has installed at once it tells at once: the leases of an anchor that come in one turn of the event loop go in one script. */
export function activating(connection: Connection): Pick<Registry, 'activate'> {
  const gathering = new Map<string, Batch>();

  async function send(anchor: string, epoch: bigint, ids: readonly string[]) {
    const [nowMs, ...answers] = (await askAnchor(connection, 'activate', anchor, [epoch, ...ids])) as [
      number,
      ...(string | number)[],
    ];
    return answers.map((answer) => refusalIn(answer) ?? leaseFrom(String(answer), nowMs));
  }

  function begin(key: string, anchor: string, epoch: bigint): Batch {
    const ids: string[] = [];
    // When whatever waited for the same has said what it wants.
    const gathered = new Promise<void>((resolve) => process.nextTick(resolve));
    const answers = gathered.then(() => {
      if (gathering.get(key) === batch) gathering.delete(key);
      return send(anchor, epoch, ids);
    });
    const batch = { ids, answers };
    gathering.set(key, batch);
    return batch;
  }

  return {
    async activate(anchor, leaseId, epoch) {
      const key = `${anchor} ${epoch}`;
      const open = gathering.get(key);
      const batch = open !== undefined && open.ids.length < AT_ONCE ? open : begin(key, anchor, epoch);
      const at = batch.ids.push(leaseId) - 1;
      const answer = (await batch.answers)[at]!;
      if (typeof answer !== 'string') return answer;
      throw refusalError(answer, `lease ${leaseId}`, { data: { anchor } });
    },
  };
}
