import Type, { type Static } from 'typebox';

const Device = Type.String({ minLength: 1, maxLength: 15 });
const PrefixText = Type.String({ minLength: 1 });
const Table = Type.Integer({ minimum: 1, maximum: 0xffffffff });

/** One change to the machine, as it stands in the change log. `family` decides what `default` means. */
export const SystemChange = Type.Union([
  /** A persistent TUN device: addresses and routes on it survive the agent, and go with it. */
  Type.Object({
    kind: Type.Literal('tun'),
    name: Device,
    mtu: Type.Integer(),
    /** Packets that come out of it may be passed on to another interface. */
    forwarding: Type.Boolean(),
  }),
  Type.Object({ kind: Type.Literal('address'), device: Device, prefix: PrefixText }),
  Type.Object({
    kind: Type.Literal('route'),
    /** address/bits */
    prefix: PrefixText,
    table: Table,
    metric: Type.Integer(),
    /** Null: packets are dropped in silence (blackhole). */
    device: Type.Union([Device, Type.Null()]),
    /** Preferred source of what this machine sends. */
    source: Type.Union([Type.String(), Type.Null()]),
  }),
  Type.Object({
    kind: Type.Literal('rule'),
    priority: Type.Integer(),
    table: Table,
    from: Type.Union([PrefixText, Type.Null()]),
    to: Type.Union([PrefixText, Type.Null()]),
  }),
  /** `before` is written back if `value` still stands then. */
  Type.Object({
    kind: Type.Literal('sysctl'),
    name: Type.String(),
    value: Type.String(),
    before: Type.String(),
  }),
  /** A table of family inet; `rules` is its body in nft's language. */
  Type.Object({ kind: Type.Literal('nftables'), table: Type.String(), rules: Type.String() }),
  /** `before` is put back if `text` still stands then; null: there was no file. */
  Type.Object({
    kind: Type.Literal('file'),
    path: Type.String(),
    text: Type.String(),
    before: Type.Union([
      Type.Object({ text: Type.String() }),
      Type.Object({ link: Type.String() }),
      Type.Null(),
    ]),
  }),
]);
export type SystemChange = Static<typeof SystemChange>;

/** The machine, as far as the agent changes it. */
export interface System {
  /** Whether the object is there already, whoever made it. */
  exists(change: SystemChange): boolean;
  /** Makes the change; made twice, it is made. */
  make(change: SystemChange): void;
  /** Takes it back; what is not there any more is fine. */
  unmake(change: SystemChange): void;
}

/** Equal for changes to the same object. */
export function identityOf(change: SystemChange): string {
  switch (change.kind) {
    case 'tun':
      return `tun ${change.name}`;
    case 'address':
      return `address ${change.prefix} on ${change.device}`;
    case 'route':
      return `${change.device === null ? 'blackhole ' : ''}route ${change.prefix} table ${change.table} metric ${change.metric}${change.device === null ? '' : ` by ${change.device}`}${change.source === null ? '' : ` from ${change.source}`}`;
    case 'rule':
      return `rule ${change.priority} from ${change.from ?? 'all'} to ${change.to ?? 'all'} table ${change.table}`;
    case 'sysctl':
      return `sysctl ${change.name}`;
    case 'nftables':
      return `nftables table inet ${change.table}`;
    case 'file':
      return `file ${change.path}`;
    default:
      change satisfies never;
      return '';
  }
}
