import Type, { type Static } from 'typebox';
import { DscpSettings, ecnSettings } from '../../src/config/marking.ts';
import {
  parseSettingsText,
  readSettingsFile,
  refuseSetting as refuse,
} from '../../src/config/settings-file.ts';
import { parseAddress, parsePrefix } from '../../src/protocol/address.ts';
import { LeaseKind } from '../../src/protocol/lease.ts';

const INTERFACE = '^[\\w.-]{1,15}$';

/** Every setting of the laptop agent. */
export const LaptopConfig = Type.Object(
  {
    stateDir: Type.String({
      minLength: 1,
      default: '/var/lib/mooring-device',
      description: 'the device key, the lease held, the log of changes, the control socket',
    }),
    signalling: Type.Object(
      {
        url: Type.String({ pattern: '^wss?://', description: 'the door of a signalling node' }),
        caFile: Type.Optional(Type.String({ description: 'authority of its certificate, if private' })),
      },
      { additionalProperties: false },
    ),
    issuer: Type.Object(
      {
        tokenEndpoint: Type.String({ pattern: '^https?://' }),
        issuer: Type.Optional(
          Type.String({
            pattern: '^https?://',
            description: 'audience of the client assertion; default: the origin of tokenEndpoint',
          }),
        ),
        clientId: Type.String({ minLength: 1 }),
        privateKeyFile: Type.Optional(
          Type.String({
            minLength: 1,
            description:
              'the device is a client of its own: key of its assertion (RFC 7523), PEM or JWK, P-256 or Ed25519; without it a person signs in (`mooring login`)',
          }),
        ),
        deviceAuthorizationEndpoint: Type.Optional(
          Type.String({ pattern: '^https?://', description: 'where `mooring login` begins (RFC 8628)' }),
        ),
        audience: Type.String({ minLength: 1, description: 'resource indicator (RFC 8707) of the service' }),
        scope: Type.String({ minLength: 1, default: 'lease' }),
        caFile: Type.Optional(Type.String({ description: 'authority of its certificate, if private' })),
      },
      { additionalProperties: false },
    ),
    pool: Type.String({ pattern: '^[a-z0-9-]{1,32}$' }),
    kind: LeaseKind,
    leaseMs: Type.Optional(
      Type.Integer({ minimum: 1_000, description: "milliseconds; default: the pool's own" }),
    ),
    ports: Type.Optional(
      Type.Integer({
        minimum: 1,
        maximum: 65536,
        description:
          'on a shared address at least so many ports, where the pool lets a block double; default: as many as the pool gives',
      }),
    ),
    remote: Type.Optional(
      Type.Object(
        {
          address: Type.String({
            description: 'the one remote that the lease is for, where the pool asks for it',
          }),
          port: Type.Optional(
            Type.Integer({ minimum: 1, maximum: 65535, description: 'where it asks for the port too' }),
          ),
        },
        { additionalProperties: false },
      ),
    ),
    interfaces: Type.Array(Type.String({ minLength: 1 }), {
      minItems: 1,
      default: ['*'],
      description: 'access interfaces in order of preference, as globs (`wlan*`)',
    }),
    tun: Type.String({
      pattern: INTERFACE,
      default: 'mooring',
      description: 'name of the TUN device',
    }),
    behind: Type.Optional(
      Type.String({
        pattern: INTERFACE,
        description: 'thin form: a host on this interface holds the leased address, not this machine',
      }),
    ),
    routes: Type.Array(Type.String(), {
      default: [],
      description:
        'prefixes that this machine reaches from the leased address; default: only what programs send from that address',
    }),
    killSwitch: Type.Boolean({
      default: false,
      description:
        'nothing leaves this machine but through the tunnel, from the start of the agent until `mooring down` or `mooring restore`: also not when the agent is stopped or killed',
    }),
    dns: Type.Array(Type.String(), {
      default: [],
      maxItems: 3,
      description:
        'addresses of resolvers that /etc/resolv.conf names while the lease is held; with a `routes` that leads to them they are asked through the tunnel',
    }),
    charon: Type.Optional(
      Type.Object(
        {
          file: Type.String({
            minLength: 1,
            description:
              "written with the lease's SPIs and IKE SPIs, for strongswan.conf to include; goes with `mooring down`",
          }),
          reload: Type.Array(Type.String(), {
            default: ['swanctl', '--reload-settings'],
            description: 'command that runs when the file has changed; empty: none',
          }),
        },
        { additionalProperties: false },
      ),
    ),
    templates: Type.Array(
      Type.Object(
        {
          template: Type.String({
            minLength: 1,
            description:
              "file in which `{{address}}`, `{{ports.first}}`, `{{ports.last}}`, `{{spis.first}}`, `{{spis.last}}` and `{{lease}}` stand for the lease's own",
          }),
          file: Type.String({ minLength: 1, description: 'what is made of it; goes with `mooring down`' }),
          reload: Type.Array(Type.String(), {
            default: [],
            description: 'command that runs when the file has changed; empty: none',
          }),
        },
        { additionalProperties: false },
      ),
      { default: [], maxItems: 8 },
    ),
    mtu: Type.Optional(
      Type.Integer({ minimum: 1280, maximum: 65535, description: 'octets; at most what the lease allows' }),
    ),
    dscp: DscpSettings,
    ecn: ecnSettings(
      'normal',
      'of the outer header towards the relay, which obeys the table of RFC 6040 §4.2; compatible: not ECN-capable',
    ),
    table: Type.Integer({
      minimum: 1,
      maximum: 0x7fffffff,
      default: 4556,
      description: 'routing table of its own, and priority of its rules (and one below and above)',
    }),
    logLevel: Type.Union(
      ['trace', 'debug', 'info', 'warn', 'error', 'fatal'].map((level) => Type.Literal(level)),
      { default: 'info' },
    ),
  },
  { additionalProperties: false },
);
export type LaptopConfig = Static<typeof LaptopConfig>;

/** Settings that go before those of the file, in its shape. */
type Settings = Readonly<Record<string, unknown>>;

/** Reads and checks a configuration file (YAML or JSON). Throws ERR_MOORING_CONFIG naming field, value and remedy. */
export function loadLaptopConfig(file: string, over: Settings = {}): LaptopConfig {
  return parseLaptopConfig(readSettingsFile(file), file, over);
}

/** Checks configuration text; `file` names it in errors. Defaults are filled in. */
export function parseLaptopConfig(text: string, file = 'configuration', over: Settings = {}): LaptopConfig {
  const config = parseSettingsText(LaptopConfig, text, file, over);
  config.routes.forEach((route, i) => {
    try {
      parsePrefix(route, `routes.${i}`);
    } catch (cause) {
      throw refuse(file, `routes.${i}`, JSON.stringify(route), 'use address/bits, host bits zero', cause);
    }
  });
  config.dns.forEach((address, i) => {
    try {
      parseAddress(address, `dns.${i}`);
    } catch (cause) {
      throw refuse(file, `dns.${i}`, JSON.stringify(address), "write a resolver's address", cause);
    }
  });
  if (config.behind !== undefined && config.routes.length > 0) {
    throw refuse(
      file,
      'routes',
      JSON.stringify(config.routes),
      'leave it out with `behind`: the leased address is not this machine’s, so it cannot send from it',
    );
  }
  if ([0, 253, 254, 255].includes(config.table)) {
    throw refuse(file, 'table', String(config.table), 'use a table that the system does not use itself');
  }
  return config;
}

/** What the agent reaches beside the tunnel. */
export function controlUrls({ signalling, issuer }: LaptopConfig): string[] {
  const { tokenEndpoint, deviceAuthorizationEndpoint } = issuer;
  return [
    signalling.url,
    tokenEndpoint,
    ...(deviceAuthorizationEndpoint === undefined ? [] : [deviceAuthorizationEndpoint]),
  ];
}
