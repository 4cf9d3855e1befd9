import { MooringError } from '../../protocol/errors.ts';
import { allPages, type Noun, part } from './command.ts';
import { type Column, facts, table } from './table.ts';

interface RelayAnswer {
  readonly id: string;
  readonly boot: string;
  readonly site: string;
  readonly planeUrl: string;
  readonly anchors: number;
  readonly standbyOf: number;
  readonly leases: number;
}

const COLUMNS: readonly Column<RelayAnswer>[] = [
  { head: 'RELAY', cell: ({ id }) => id },
  { head: 'SITE', cell: ({ site }) => site },
  { head: 'ANCHORS', cell: ({ anchors }) => anchors },
  { head: 'STANDBY OF', cell: ({ standbyOf }) => standbyOf },
  { head: 'LEASES', cell: ({ leases }) => leases },
  { head: 'PLANE', cell: ({ planeUrl }) => planeUrl || '–' },
];

interface Drained {
  readonly relay: string;
  readonly moved: readonly { readonly anchor: string; readonly to: string; readonly epoch: string }[];
  readonly failed: readonly { readonly anchor: string; readonly code: string; readonly detail: string }[];
  readonly remaining: number;
}

export const relayNoun: Noun = {
  name: 'relay',
  verbs: {
    list: {
      form: 'list',
      meaning: 'relays that run now, and what they carry',
      words: [0, 0],
      looks: true,
      async run(work) {
        const relays = await allPages<RelayAnswer>(work, '/v1/relays', 'relays');
        work.print({ relays }, () => table(COLUMNS, relays));
      },
    },
    show: {
      form: 'show RELAY',
      meaning: 'one relay, and the anchors that it owns',
      words: [1, 1],
      looks: true,
      async run(work) {
        const path = `/v1/relays/${part(work.words[0])}`;
        const shown = await work.client.ask<{ relay: RelayAnswer; owns: readonly string[] }>('GET', path);
        work.print(shown, ({ relay, owns }) =>
          facts({
            relay: relay.id,
            boot: relay.boot,
            site: relay.site,
            plane: relay.planeUrl || 'none',
            leases: relay.leases,
            owns: owns.join(' ') || 'nothing',
            'standby of': `${relay.standbyOf} anchors`,
          }),
        );
      },
    },
    drain: {
      form: 'drain RELAY',
      meaning: 'hand all its anchors over to other relays of its site, as before an upgrade',
      words: [1, 1],
      async run(work) {
        const path = `/v1/relays/${part(work.words[0])}/drain`;
        const moved: Drained['moved'][number][] = [];
        let last: Drained;
        do {
          last = await work.client.ask<Drained>('POST', path);
          moved.push(...last.moved);
        } while (last.remaining > 0 && last.moved.length > 0);
        work.print({ ...last, moved }, () =>
          [
            ...moved.map(({ anchor, to, epoch }) => `${anchor}: relay ${to} owns it, epoch ${epoch}`),
            ...last.failed.map(({ anchor, detail, code }) => `${anchor}: stays; ${detail} [${code}]`),
            last.remaining === 0
              ? `${last.relay} owns nothing`
              : `${last.relay} still owns ${last.remaining}`,
          ].join('\n'),
        );
        if (last.remaining > 0) {
          throw new MooringError(
            'ERR_MOORING_NOT_DRAINED',
            `relay ${last.relay} still owns ${last.remaining} anchors; mend what is said of them, and drain it again`,
          );
        }
      },
    },
  },
};
