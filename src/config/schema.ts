import Type, { type Static } from 'typebox';
import { LONGEST_CLAIM_MS } from './longest-claim.ts';
import { DscpSettings, ecnSettings } from './marking.ts';

/** A year: as long as a device may ask for (protocol/signalling.ts), and far from where instants lose their milliseconds. */
const LONGEST_MS = 366 * 86_400_000;
/** Above what any pool holds, and counted exactly everywhere. */
const MOST_LEASES = 1_000_000_000;

const Name = Type.String({ pattern: '^[a-z0-9-]{1,32}$' });
const Path = Type.String({ minLength: 1 });
const Port = Type.Integer({ minimum: 1, maximum: 65535 });
const Listen = Type.Object(
  {
    host: Type.String({ description: 'address to listen on', default: '127.0.0.1' }),
    port: Port,
  },
  { additionalProperties: false },
);
const PowerOfTwo = (minimum: number, maximum: number, fallback: number, description: string) =>
  Type.Integer({ minimum, maximum, default: fallback, description });

const MutualTls = Type.Object(
  {
    certFile: Path,
    keyFile: Path,
    caFile: Type.String({
      minLength: 1,
      description: 'only peers with a certificate of this authority are served',
    }),
  },
  { additionalProperties: false },
);
export type MutualTls = Static<typeof MutualTls>;

const Anchor = Type.Object(
  {
    id: Type.String({ pattern: '^[a-z0-9-]{1,32}$', description: 'unique over all pools' }),
    home: Type.String({
      pattern: '^[a-z0-9-]{1,32}$',
      description: 'relay that claims it when nobody ever owned it',
    }),
    endpoints: Type.Array(Type.String(), {
      minItems: 1,
      maxItems: 2,
      description: 'tunnel endpoint addresses, one of each family at most; never leased',
    }),
    prefixes: Type.Array(Type.String(), {
      minItems: 1,
      maxItems: 256,
      description:
        'public addresses or prefixes that it serves, whole. One that is taken out is drained: no new leases, and it goes with its last one',
    }),
    retire: Type.Optional(
      Type.Boolean({
        description: 'drain it: no new leases, and it goes with its last one. Leaving it out says nothing',
      }),
    ),
  },
  { additionalProperties: false },
);
export type AnchorSettings = Static<typeof Anchor>;

const ClaimRules = (description: string) =>
  Type.Array(
    Type.Object(
      {
        claim: Type.String({
          minLength: 1,
          maxLength: 128,
          description: 'of the access token; `scope` is read as a list of words',
        }),
        values: Type.Array(Type.String({ minLength: 1 }), {
          minItems: 1,
          description: 'it must be one of these, or a list that holds one of them',
        }),
      },
      { additionalProperties: false },
    ),
    { minItems: 1, description },
  );
export type ClaimRules = Static<ReturnType<typeof ClaimRules>>;

export const Pool = Type.Object(
  {
    name: Name,
    realm: Type.Optional(
      Type.Union([Type.Literal('public'), Type.Literal('private')], {
        description:
          'public (when nothing is said): addresses that the whole Internet can reach; private: those of a network behind the relay. Devices are told, and private address space (RFC 1918, RFC 4193, RFC 6598) needs it',
      }),
    ),
    retire: Type.Optional(
      Type.Boolean({
        description:
          'drain all its anchors: no new leases, and each goes with its last one. Leaving a pool out says nothing',
      }),
    ),
    mayLease: Type.Optional(
      ClaimRules('who may lease: devices whose access token meets every rule; everybody without it'),
    ),
    mayUseIpsec: Type.Optional(
      ClaimRules('who may lease SPIs: tokens that meet every rule; everybody who may lease without it'),
    ),
    sharing: Type.Union([Type.Literal('whole'), Type.Literal('shared')], {
      description: 'whole: an address a lease; shared: a block of ports and of SPIs a lease',
    }),
    portBlock: PowerOfTwo(8, 16384, 1024, 'ports a lease on a shared address; a power of two'),
    maxPortBlock: Type.Optional(
      Type.Integer({
        minimum: 8,
        maximum: 32_768,
        description:
          'ports that the block of a lease may double to, by its device asking for more while the neighbouring blocks are free; a power of two. Without it blocks stay as they are',
      }),
    ),
    spiBlock: PowerOfTwo(2, 65536, 256, 'SPIs a lease on a shared address; a power of two'),
    leaseMs: Type.Object(
      {
        default: Type.Integer({
          minimum: 1_000,
          maximum: LONGEST_MS,
          default: 3_600_000,
          description: 'milliseconds, when a device names none',
        }),
        max: Type.Integer({
          minimum: 1_000,
          maximum: LONGEST_MS,
          default: 86_400_000,
          description: 'milliseconds; longer wishes are shortened',
        }),
        min: Type.Optional(
          Type.Integer({
            minimum: 1_000,
            description:
              'milliseconds: from half of an anchor leased on, what it leases lasts the shorter the fewer shares are left, from max down to this; without it lease times do not depend on that',
          }),
        ),
      },
      { additionalProperties: false, default: {} },
    ),
    standby: Type.Optional(
      Type.Boolean({
        description:
          'another relay with the same masterKeyFile takes an anchor over within a second when its relay is lost; without it an anchor waits for its relay. Relays ask each other ten times a second',
      }),
    ),
    coolingMs: Type.Integer({
      minimum: 120_000,
      maximum: LONGEST_MS,
      default: 120_000,
      description: 'milliseconds before a freed share goes to another device (RFC 3102 §6.1)',
    }),
    spiCoolingMs: Type.Optional(
      Type.Integer({
        minimum: 120_000,
        maximum: LONGEST_MS,
        description:
          'milliseconds that SPIs should rest before another device gets them, when nothing is said 3,600,000: leases of ports alone take the shares whose SPIs still rest, and leases of SPIs those that have rested longest',
      }),
    ),
    maxLeasesPerDevice: Type.Integer({ minimum: 1, maximum: MOST_LEASES, default: 4 }),
    maxLeasesPerTenant: Type.Optional(
      Type.Integer({
        minimum: 1,
        maximum: MOST_LEASES,
        description:
          'leases that the devices of one tenant may hold in the pool, all together; without it any number. What they hold beyond a lower limit they keep',
      }),
    ),
    remotePolicy: Type.Optional(
      Type.Union([Type.Literal('none'), Type.Literal('macro'), Type.Literal('micro')], {
        description:
          'none (when nothing is said): a lease is for any remote; macro: for the one address that its device declares; micro: for one port of it (RFC 3103 §7.2)',
      }),
    ),
    anchors: Type.Array(Anchor, { minItems: 1 }),
  },
  { additionalProperties: false },
);
export type PoolSettings = Static<typeof Pool>;

const Relay = Type.Object(
  {
    id: Name,
    interface: Type.String({
      minLength: 1,
      maxLength: 15,
      description: 'public interface: tunnel and peers',
    }),
    engine: Type.Union([Type.Literal('auto'), Type.Literal('xdp'), Type.Literal('userspace')], {
      default: 'auto',
      description:
        'what forwards packets. auto: XDP where it is possible, and `mooring status` says why not; xdp: or no start; userspace: never XDP. On veth devices, where XDP reaches the other end only if that has GRO or XDP on, auto means userspace',
    }),
    accessInterfaces: Type.Array(Type.String({ minLength: 1, maxLength: 15 }), {
      default: [],
      maxItems: 7,
      description: 'further interfaces that devices come by: XDP takes their packets there too',
    }),
    bpffs: Type.String({
      minLength: 1,
      default: '/sys/fs/bpf',
      description:
        'file system of type bpf, mounted where it is missing, that holds the XDP program and its maps while the process is away',
    }),
    xdpSessions: Type.Integer({
      minimum: 16,
      maximum: 1_048_576,
      default: 16_384,
      description: 'sessions that XDP has room for (some 2 KiB each); more are forwarded without it',
    }),
    tun: Type.String({
      minLength: 1,
      maxLength: 15,
      default: 'mooring0',
      description: 'persistent TUN device',
    }),
    port: Type.Integer({ minimum: 1, maximum: 65535, default: 4556, description: 'UDP port of the tunnel' }),
    innerMtu: Type.Integer({
      minimum: 1280,
      maximum: 9000,
      default: 1280,
      description:
        'octets of the largest packet inside the tunnel, the same wherever a device goes; the outer one has up to 64 more and must fit every access network, or is fragmented there',
    }),
    dscp: DscpSettings,
    ecn: ecnSettings(
      'compatible',
      'of the outer header towards devices: compatible: not ECN-capable; normal: as the inner one, only where every device obeys the table of RFC 6040 §4.2. The relay itself always does',
    ),
    perSessionBitsPerSecond: Type.Optional(
      Type.Integer({
        minimum: 128_000,
        maximum: 400_000_000_000,
        description: 'of inner packets, in each direction of each session; without it there is no limit',
      }),
    ),
    perSessionBurstMs: Type.Integer({
      minimum: 0,
      maximum: 4_000,
      default: 100,
      description: 'milliseconds that a session may be ahead of its rate',
    }),
    masterKeyFile: Type.Optional(
      Type.String({
        description:
          'the site key, 64 hexadecimal digits, the same on every relay of a site and nowhere else; without it a key is made in dataDir',
      }),
    ),
    ownershipMs: Type.Integer({
      minimum: 400,
      maximum: LONGEST_CLAIM_MS,
      default: LONGEST_CLAIM_MS,
      description: 'milliseconds that a claim holds without renewal; forwarding stops at its end',
    }),
    outageGraceMs: Type.Integer({
      minimum: 0,
      maximum: 3_600_000,
      default: 3_600_000,
      description:
        'milliseconds that leases are kept past their end while the registry is away, when nobody can extend them; from when it answered last',
    }),
    announce: Type.Union([Type.Literal('neighbour'), Type.Literal('routed')], {
      default: 'neighbour',
      description:
        'neighbour: proxy ARP/ND and gratuitous ARP on the public interface; routed: the network routes the prefixes here',
    }),
    plane: Type.Optional(
      Type.Object(
        {
          listen: Listen,
          url: Type.String({
            pattern: '^wss://',
            description: 'how signalling nodes and other relays reach it',
          }),
          tls: MutualTls,
        },
        {
          additionalProperties: false,
          description: 'needed when signalling or a second relay is another process',
        },
      ),
    ),
  },
  { additionalProperties: false },
);
export type RelaySettings = Static<typeof Relay>;

const Issuer = Type.Object(
  {
    issuer: Type.String({ pattern: '^https?://' }),
    audience: Type.String({ minLength: 1 }),
    jwksUri: Type.Optional(Type.String({ pattern: '^https?://' })),
    algorithms: Type.Array(Type.String(), { minItems: 1, default: ['ES256', 'RS256', 'EdDSA'] }),
    tenant: Type.Optional(Type.String({ description: 'tenant of its devices when the token names none' })),
    caFile: Type.Optional(
      Type.String({ description: "authority of the issuer's TLS certificate, if private" }),
    ),
  },
  { additionalProperties: false },
);

const Signalling = Type.Object(
  {
    listen: Listen,
    url: Type.String({
      pattern: '^(https|http|wss|ws)://',
      description: 'public URL of the door; DPoP proofs name it',
    }),
    tls: Type.Optional(Type.Object({ certFile: Path, keyFile: Path }, { additionalProperties: false })),
    issuers: Type.Array(Issuer, { minItems: 1 }),
    planeTls: Type.Optional(MutualTls),
  },
  { additionalProperties: false },
);
export type SignallingSettings = Static<typeof Signalling>;

const Redis = Type.Object(
  {
    passwordFile: Type.Optional(
      Type.String({
        minLength: 1,
        description: 'the password, alone in a file; goes before one in redisUrl',
      }),
    ),
    sentinelPasswordFile: Type.Optional(
      Type.String({ minLength: 1, description: 'the password that sentinels themselves ask for' }),
    ),
    caFile: Type.Optional(
      Type.String({
        minLength: 1,
        description: "with rediss…: authority of the servers' certificates (PEM), when it is a private one",
      }),
    ),
    certFile: Type.Optional(
      Type.String({ minLength: 1, description: 'with rediss…: client certificate (PEM)' }),
    ),
    keyFile: Type.Optional(Type.String({ minLength: 1, description: 'its key (PEM)' })),
  },
  {
    additionalProperties: false,
    description: 'files that redisUrl needs, read at the start (docs/redis.md)',
  },
);
export type RedisSettings = Static<typeof Redis>;

const OperatorIssuer = Type.Object(
  {
    issuer: Type.String({ pattern: '^https?://' }),
    audience: Type.String({ minLength: 1, description: 'another one than devices have' }),
    jwksUri: Type.Optional(Type.String({ pattern: '^https?://' })),
    algorithms: Type.Array(Type.String({ pattern: '^(?!none$|HS)' }), {
      minItems: 1,
      default: ['ES256', 'RS256', 'EdDSA'],
    }),
    wholeSite: Type.Boolean({
      default: false,
      description:
        'tokens without the claim `tenant` are for all tenants, pools and relays; otherwise they are refused. A token with it is for the leases of that tenant',
    }),
    caFile: Type.Optional(
      Type.String({ description: "authority of the issuer's TLS certificate, if private" }),
    ),
  },
  { additionalProperties: false },
);

const Admin = Type.Object(
  {
    listen: Listen,
    url: Type.String({
      pattern: '^https?://',
      description: 'how operators reach it; their DPoP proofs name it',
    }),
    tls: Type.Optional(
      Type.Object(
        {
          certFile: Path,
          keyFile: Path,
          operatorCaFile: Type.Optional(
            Type.String({
              minLength: 1,
              description:
                'who shows a certificate of this authority with the common name `operator:NAME` may do everything, without a token',
            }),
          ),
        },
        { additionalProperties: false, description: 'without it, only on a loopback address' },
      ),
    ),
    issuers: Type.Array(OperatorIssuer, { default: [], description: 'whose access tokens make an operator' }),
    planeTls: Type.Optional(MutualTls),
  },
  {
    additionalProperties: false,
    description:
      'the admin API for operators elsewhere; those on this machine use the control socket in dataDir',
  },
);
export type AdminSettings = Static<typeof Admin>;

/** Every setting of the program. `docs/configuration.md` is generated from it. */
export const Settings = Type.Object(
  {
    dataDir: Type.String({ default: '/var/lib/mooring', description: 'keys, sockets, the private registry' }),
    redisUrl: Type.Optional(
      Type.String({
        description:
          'Redis or Valkey (7.0 or newer) that holds the registry: redis://HOST:PORT, redis+sentinel://HOST:PORT,…/PRIMARY or redis+cluster://HOST:PORT,… (rediss… with TLS, USER@ before the hosts), or the path of a unix socket; the environment variable REDIS_URL goes before it; without both a private redis-server runs in dataDir',
      }),
    ),
    redis: Type.Optional(Redis),
    logLevel: Type.Union(
      ['trace', 'debug', 'info', 'warn', 'error', 'fatal'].map((level) => Type.Literal(level)),
      { default: 'info' },
    ),
    relay: Type.Optional(Relay),
    signalling: Type.Optional(Signalling),
    admin: Type.Optional(Admin),
    pools: Type.Array(Pool, { default: [] }),
  },
  { additionalProperties: false },
);
export type Settings = Static<typeof Settings>;
