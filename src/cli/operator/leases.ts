import { MooringError } from '../../protocol/errors.ts';
import type { Block, Lease } from '../../protocol/lease.ts';
import { allPages, type Noun, option, part, type Work } from './command.ts';
import { type Column, duration, facts, table } from './table.ts';

const FILTERS = ['pool', 'anchor', 'tenant', 'device', 'address', 'port', 'spi', 'state'];

const COLUMNS: readonly Column<Lease>[] = [
  { head: 'LEASE', cell: ({ id }) => id },
  { head: 'DEVICE', cell: ({ device }) => `${device.tenant}/${device.id}` },
  { head: 'POOL', cell: ({ pool }) => pool },
  { head: 'KIND', cell: ({ kind }) => kind },
  { head: 'ADDRESS', cell: ({ address }) => address },
  { head: 'PORTS', cell: ({ ports }) => range(ports) },
  { head: 'SPIS', cell: ({ spis }) => range(spis) },
  { head: 'STATE', cell: ({ state }) => state },
  { head: 'LEFT', cell: ({ remainingMs }) => duration(remainingMs) },
];

function range(block: Block | null): string {
  return block === null ? '–' : `${block.first}–${block.first + block.count - 1}`;
}

async function list(work: Work, query: Readonly<Record<string, string | undefined>>): Promise<void> {
  const leases = await allPages<Lease>(work, '/v1/leases', 'leases', query);
  work.print({ leases }, () => table(COLUMNS, leases));
}

interface Shown {
  readonly lease: Lease;
  readonly path: { readonly address: string; readonly port: number } | null;
  readonly relay: string | null;
}

function rendered({ lease, path, relay }: Shown): string {
  return facts({
    lease: lease.id,
    device: `${lease.device.tenant}/${lease.device.id}`,
    pool: lease.pool,
    kind: lease.kind,
    address: lease.address,
    ports: range(lease.ports),
    SPIs: range(lease.spis),
    'IKE SPIs': range(lease.ikeSpis ?? null),
    remote:
      lease.remote == null
        ? 'any'
        : `${lease.remote.address}${lease.remote.port === null ? '' : `, port ${lease.remote.port}`}`,
    state: `${lease.state}, ${duration(lease.remainingMs)} left`,
    'carried by': relay ?? 'no relay now',
    'last seen at': path === null ? 'nowhere yet' : `${path.address}, port ${path.port}`,
    fence: lease.fence,
  });
}

interface Revoked {
  readonly lease: Lease;
  readonly stopped: boolean;
}

/** The leases that are named, or all of a device. */
async function toRevoke(work: Work): Promise<readonly string[]> {
  const device = option(work, 'device');
  const tenant = option(work, 'tenant');
  if (device === undefined && work.words.length > 0) return work.words;
  if (device === undefined || work.words.length > 0) {
    throw new MooringError('ERR_MOORING_USAGE', 'name leases, or --tenant and --device');
  }
  const leases = await allPages<Lease>(work, '/v1/leases', 'leases', { tenant, device });
  return leases.map(({ id }) => id);
}

export const leaseNoun: Noun = {
  name: 'lease',
  verbs: {
    list: {
      form: 'list [--pool P] [--anchor A] [--tenant T [--device D]] [--state pending|active]',
      meaning: 'leases, all or those that fit',
      options: FILTERS,
      words: [0, 0],
      looks: true,
      run: (work) => list(work, Object.fromEntries(FILTERS.map((name) => [name, option(work, name)]))),
    },
    find: {
      form: 'find ADDRESS [--port N] [--spi N]',
      meaning: 'who has this address, this port of it, this SPI (decimal, or 0x…)',
      options: ['port', 'spi'],
      words: [1, 1],
      looks: true,
      run(work) {
        const spi = option(work, 'spi');
        return list(work, {
          address: work.words[0],
          port: option(work, 'port'),
          // What is no number is the server's to refuse, by the name it was given.
          spi: spi === undefined || Number.isNaN(Number(spi)) ? spi : String(Number(spi)),
        });
      },
    },
    show: {
      form: 'show LEASE',
      meaning: 'one lease, who carries it, and where its device was last',
      words: [1, 1],
      looks: true,
      async run(work) {
        work.print(await work.client.ask<Shown>('GET', `/v1/leases/${part(work.words[0])}`), rendered);
      },
    },
    revoke: {
      form: 'revoke LEASE… | revoke --tenant T --device D',
      meaning: 'end leases against their device’s will; the device is told',
      options: ['tenant', 'device'],
      words: [0, 1_000],
      async run(work) {
        const revoked: Revoked[] = [];
        for (const id of await toRevoke(work)) {
          revoked.push(await work.client.ask<Revoked>('DELETE', `/v1/leases/${part(id)}`));
        }
        work.print({ revoked }, () =>
          revoked
            .map(
              ({ lease, stopped }) =>
                `${lease.id}: revoked${stopped ? '' : '; its relay could not be asked, and stops when it reads of it'}`,
            )
            .join('\n'),
        );
      },
    },
  },
};
