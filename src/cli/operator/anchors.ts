import { allPages, demanded, type Noun, option, part } from './command.ts';
import { type Column, duration, facts, table } from './table.ts';

/** What the API says of an anchor. */
export interface AnchorAnswer {
  readonly id: string;
  readonly pool: string;
  readonly home: string;
  readonly endpoints: readonly string[];
  readonly prefixes: readonly string[];
  readonly draining: readonly { readonly prefix: string; readonly remainingMs: number }[];
  readonly retiring: boolean;
  readonly capacity: number;
  readonly held: number;
  readonly free: number;
  readonly owner: {
    readonly relay: string;
    readonly epoch: string;
    readonly remainingMs: number;
    readonly standby: string | null;
  } | null;
}

/** An anchor as one line of a table. */
export const ANCHOR_COLUMNS: readonly Column<AnchorAnswer>[] = [
  { head: 'ANCHOR', cell: ({ id }) => id },
  { head: 'POOL', cell: ({ pool }) => pool },
  { head: 'OWNER', cell: ownerOf },
  { head: 'STANDBY', cell: ({ owner }) => owner?.standby ?? '–' },
  { head: 'EPOCH', cell: ({ owner }) => Number(owner?.epoch ?? 0) },
  { head: 'HELD', cell: ({ held }) => held },
  { head: 'FREE', cell: ({ free }) => free },
  { head: 'OF', cell: ({ capacity }) => capacity },
  { head: 'PREFIXES', cell: ({ prefixes, retiring }) => (retiring ? 'retiring' : prefixes.join(' ')) },
];

function ownerOf({ owner }: AnchorAnswer): string {
  if (owner === null) return '–';
  return owner.remainingMs > 0 ? owner.relay : `(${owner.relay})`;
}

function rendered(anchor: AnchorAnswer): string {
  const { owner, draining } = anchor;
  return facts({
    anchor: anchor.id,
    pool: anchor.pool,
    home: anchor.home,
    endpoints: anchor.endpoints.join(' '),
    prefixes: anchor.prefixes.join(' ') || '–',
    draining:
      draining.map(({ prefix, remainingMs }) => `${prefix} (${duration(remainingMs)} at most)`).join(' ') ||
      '–',
    retiring: anchor.retiring ? 'yes' : 'no',
    leases: `${anchor.held} held, ${anchor.free} free, of ${anchor.capacity}`,
    owner:
      owner === null
        ? 'none'
        : `${owner.relay}, epoch ${owner.epoch}${owner.remainingMs > 0 ? '' : ', its claim has run out'}`,
    standby: owner?.standby ?? 'none',
  });
}

interface Moved {
  readonly anchor: string;
  readonly to: string;
  readonly epoch: string;
  readonly tookMs: number;
}

export const anchorNoun: Noun = {
  name: 'anchor',
  verbs: {
    list: {
      form: 'list [--pool P] [--relay R]',
      meaning:
        'anchors: what they serve, how full they are, who owns them; an owner in brackets has fallen silent',
      options: ['pool', 'relay'],
      words: [0, 0],
      looks: true,
      async run(work) {
        const query = { pool: option(work, 'pool'), relay: option(work, 'relay') };
        const anchors = await allPages<AnchorAnswer>(work, '/v1/anchors', 'anchors', query);
        work.print({ anchors }, () => table(ANCHOR_COLUMNS, anchors));
      },
    },
    show: {
      form: 'show ANCHOR',
      meaning: 'one anchor',
      words: [1, 1],
      looks: true,
      async run(work) {
        work.print(
          await work.client.ask<AnchorAnswer>('GET', `/v1/anchors/${part(work.words[0])}`),
          rendered,
        );
      },
    },
    handover: {
      form: 'handover ANCHOR --to RELAY',
      meaning: 'its owner hands it over to another relay of its site; nobody notices',
      options: ['to'],
      words: [1, 1],
      async run(work) {
        const path = `/v1/anchors/${part(work.words[0])}/handover`;
        const moved = await work.client.ask<Moved>('POST', path, { body: { to: demanded(work, 'to') } });
        work.print(
          moved,
          ({ anchor, to, epoch, tookMs }) =>
            `${anchor}: relay ${to} owns it, epoch ${epoch}, after ${Math.round(tookMs)} ms`,
        );
      },
    },
    claim: {
      form: 'claim ANCHOR --relay RELAY',
      meaning:
        'that relay takes it, because its owner is gone for good; refused while the claim of the owner lasts',
      options: ['relay'],
      words: [1, 1],
      async run(work) {
        const path = `/v1/anchors/${part(work.words[0])}/claim`;
        const body = { relay: demanded(work, 'relay') };
        const claimed = await work.client.ask<{ anchor: string; relay: string; epoch: string }>(
          'POST',
          path,
          { body },
        );
        work.print(
          claimed,
          ({ anchor, relay, epoch }) => `${anchor}: relay ${relay} owns it, epoch ${epoch}`,
        );
      },
    },
    retire: {
      form: 'retire ANCHOR',
      meaning: 'no more leases on it; it goes with its last one',
      words: [1, 1],
      async run(work) {
        work.print(
          await work.client.ask<AnchorAnswer>('DELETE', `/v1/anchors/${part(work.words[0])}`),
          rendered,
        );
      },
    },
  },
};
