import { parseLaptopConfig } from '../../clients/laptop/config.ts';
import { readResult, readServerFrame } from '../../clients/sdk/frames.ts';
import { parseSettings } from '../../src/config/load.ts';
import { listAddresses } from '../../src/linux/addresses.ts';
import { listLinks } from '../../src/linux/links.ts';
import type { Netlink } from '../../src/linux/netlink.ts';
import {
  attribute,
  attributeNested,
  attributeText,
  attributeU32,
  decodeMessages,
  encodeMessage,
} from '../../src/linux/netlink-message.ts';
import { listRoutes } from '../../src/linux/routes.ts';
import { listRules } from '../../src/linux/rules.ts';
import { canonicalAddress, parsePrefix, socketAddress } from '../../src/protocol/address.ts';
import type { Lease } from '../../src/protocol/lease.ts';
import {
  eventFrom,
  hintFrom,
  leaseFrom,
  leaseRecordFrom,
  leaseText,
  sessionFrom,
  sessionText,
} from '../../src/registry/records.ts';
import { checkedParams } from '../../src/relay/plane-calls.ts';
import { errorOfFrame, readPlaneFrame } from '../../src/relay/plane-frame.ts';
import { parseFrame } from '../../src/signalling/frame.ts';
import { anchor, at, EngineRig, install, sessionId } from '../unit/datapath/engine-rig.ts';
import { lease } from '../unit/datapath/packets.ts';
import type { Target } from './fuzzer.ts';
import { mutated, mutatedJson } from './mutate.ts';

/** Everything that other processes say in words: devices, relays, the registry, the kernel, an operator. */

const HELD: Lease = lease({
  kind: 'rsipsec',
  address: '203.0.113.7',
  ports: { first: 1024, count: 64 },
  spis: { first: 4096, count: 16 },
});
const SESSION = {
  id: sessionId(1),
  index: 1,
  device: { tenant: 't', id: 'd' },
  thumbprint: 'A'.repeat(43),
  salt: '00'.repeat(16),
};
const SEALING_KEY = { kty: 'OKP', crv: 'X25519', x: 'A'.repeat(43) };
const STATE = {
  id: sessionId(1),
  deviceBoot: '00000000000000d1',
  generation: 3,
  active: { address: '192.0.2.10', port: 4000 },
  rttMs: 12,
  control: { highest: '9', bitmap: 'ff01' },
  data: {
    epoch: '1',
    relayBoot: '00000000000000e1',
    keyNumber: 4,
    nextSequence: 17,
    fastSequence: 9,
    windows: [
      { highest: 20, bitmap: '0f' },
      { highest: 3, bitmap: '07' },
    ],
  },
};

function json(name: string, values: readonly unknown[], read: (text: string) => void): Target {
  return {
    name,
    inputs: values.map((value) => JSON.stringify(value)),
    draw: (random) => mutatedJson(random, values),
    read: (input) => read(input as string),
  };
}

function texts(name: string, inputs: readonly string[], read: (text: string) => void): Target {
  const octets = inputs.map((text) => new TextEncoder().encode(text));
  return {
    name,
    inputs,
    draw: (random) => new TextDecoder().decode(mutated(random, octets)),
    read: (input) => read(input as string),
  };
}

const fromDevices = json(
  'signalling frames of devices',
  [
    { type: 'hello', id: 1, token: 'x'.repeat(20), proof: 'y'.repeat(20), sealingKey: SEALING_KEY },
    { type: 'lease', id: 2, request: '0'.repeat(32), pool: 'p1', kind: 'rsipsec', leaseMs: 60_000 },
    {
      type: 'lease',
      id: 3,
      request: '1'.repeat(32),
      pool: 'p1',
      kind: 'rsa-ip',
      remote: { address: '::1', port: 5 },
    },
    { type: 'extend', id: 4, lease: HELD.id },
    { type: 'rebind', id: 5, lease: HELD.id, datagram: 'A'.repeat(155), address: '192.0.2.1', port: 5 },
    { type: 'ping', id: 6 },
  ],
  (text) => {
    const parsed = parseFrame(text);
    if (parsed.kind !== 'request' && parsed.kind !== 'bad') throw new Error('neither a request nor bad');
  },
);

const TUNNEL = {
  endpoints: [{ address: '203.0.113.1', port: 4556 }],
  index: 1,
  sessionId: sessionId(1),
  epoch: '3',
  mtu: 1280,
  sealedRoot: 'a.b.c.d.e',
};

const fromServers = json(
  'signalling frames of servers',
  [
    { type: 'welcome', protocol: 'mooring.v1', nonce: 'n'.repeat(22), url: 'wss://door.example/' },
    { type: 'result', id: 1, result: { lease: HELD, tunnel: TUNNEL } },
    { type: 'error', id: 1, error: { code: 'ERR_MOORING_X', message: 'm', temporary: true, rsip: 308 } },
    { type: 'ended', lease: HELD.id, reason: 'expired' },
    { type: 'goaway', withinMs: 500 },
  ],
  (text) => {
    const frame = readServerFrame(text);
    if (frame.type === 'result') readResult('lease', frame.result);
  },
);

const EVENTS = [
  { type: 'granted', fence: '1-1', lease: HELD, session: SESSION },
  { type: 'extended', fence: '1-2', lease: HELD },
  { type: 'ended', fence: '1-3', lease: HELD, reason: 'freed' },
  { type: 'session', fence: '1-4', session: SESSION, replaces: sessionId(9) },
  { type: 'owned', fence: '2-1', relay: 'r1' },
];

const relayPlane = json(
  'messages of the relay plane',
  [
    { id: 1, call: 'install', params: { lease: HELD, session: SESSION } },
    { id: 2, call: 'apply', params: { anchor: 'a1', event: EVENTS[0] } },
    { id: 3, call: 'rebind', params: { anchor: 'a1', datagram: 'AA', address: '192.0.2.1', port: 9 } },
    { id: 4, call: 'prepare', params: { anchor: 'a1' } },
    { id: 5, call: 'adopt', params: { anchor: 'a1', epoch: '3', sessions: [STATE] } },
    { id: 6, error: { code: 'ERR_MOORING_X', message: 'm', rsip: 308, retryAfterMs: 5 } },
  ],
  (text) => {
    const frame = readPlaneFrame(text);
    if (frame.error !== undefined) errorOfFrame(frame.error);
    const check = Object.hasOwn(checkedParams, String(frame.call))
      ? checkedParams[frame.call as keyof typeof checkedParams]
      : null;
    check?.(frame.params);
  },
);

/** What passes the plane's own check reaches the engine. */
function handedOver(): Target {
  const check = checkedParams.adopt;
  return json('sessions that are handed over', [{ anchor: 'a1', epoch: '2', sessions: [STATE] }], (text) => {
    const rig = new EngineRig(0xe2n);
    anchor(rig);
    install(rig, 1, [HELD]);
    const { sessions } = check(readPlaneFrame(text)) as { sessions: (typeof STATE)[] };
    rig.command({ op: 'import', anchor: 'a1', sessions });
    rig.datagram(at('192.0.2.10', 4000), new Uint8Array(80).fill(0x10));
    rig.pass(10);
    rig.command({ op: 'export', anchor: 'a1' });
  });
}

const PLACE = { anchor: 'a1', pool: 'p1', nowMs: 1_000 };
const [LEASE_TEXT, SESSION_TEXT] = [leaseText(HELD), sessionText(SESSION)];
const [, , , ...RECORD] = LEASE_TEXT.split(' ');
const registry = texts(
  'records and lease events of the registry',
  [
    ...[LEASE_TEXT, SESSION_TEXT, '1 00000000000000d1 3 192.0.2.10 4000'],
    `granted x ${RECORD.join(' ')} ${SESSION_TEXT.slice(SESSION_TEXT.indexOf(' ') + 1)}`,
    ...['activated', 'extended', 'ended freed'].map((kind) => `${kind} x y ${RECORD.join(' ')}`),
    ...[`session ${SESSION_TEXT}`, 'owned r1', 'declared'],
  ],
  (text) => {
    const readers = [
      () => eventFrom('1-1', text, PLACE),
      () => leaseFrom(text, 1_000),
      () => sessionFrom(text),
      () => hintFrom('x', text),
      () => leaseRecordFrom('x', text, new Map([['t/d', SESSION]]), PLACE),
    ];
    for (const read of readers) {
      try {
        read();
      } catch (error) {
        if ((error as { code?: string }).code !== 'ERR_MOORING_RECORD') throw error;
      }
    }
  },
);

function leases(): Target {
  const rig = new EngineRig(0xe1n);
  anchor(rig);
  install(rig, 1, []);
  const own = { ...HELD, session: sessionId(1) };
  return json(
    'leases',
    [own, { ...own, kind: 'rsa-ip', ports: null, spis: null, address: '2001:db8::8' }],
    (text) => {
      const params = checkedParams.install({ lease: readPlaneFrame(text), session: SESSION }) as {
        lease: Lease;
      };
      rig.command({ op: 'lease', anchor: 'a1', lease: params.lease, untilMs: 1e9 });
      rig.command({ op: 'drop-lease', anchor: 'a1', id: params.lease.id });
    },
  );
}

function netlinkMessages(): Target {
  const link = new Uint8Array(16);
  const address = Uint8Array.of(2, 24, 0, 0, 3, 0, 0, 0);
  const route = Uint8Array.of(2, 24, 0, 0, 254, 4, 0, 1, 0, 0, 0, 0);
  const v4 = Uint8Array.of(192, 0, 2, 1);
  const v6 = new Uint8Array(16).fill(0x20);
  const hop = Uint8Array.of(16, 0, 0, 0, 1, 0, 0, 0, 8, 0, 5, 0, 192, 0, 2, 9);
  const inputs = [
    encodeMessage(16, 0, 1, link, [
      attributeText(3, 'eth0'),
      attribute(1, new Uint8Array(6)),
      attributeU32(4, 1500),
      attributeNested(18, [attributeText(1, 'veth')]),
    ]),
    encodeMessage(20, 0, 2, address, [attribute(1, v4), attribute(2, v4), attributeU32(8, 128)]),
    encodeMessage(24, 0, 3, route, [
      attribute(1, v4),
      attribute(5, v6),
      attributeU32(4, 2),
      attribute(9, hop),
    ]),
    encodeMessage(32, 0, 4, route, [
      attribute(1, v4),
      attribute(2, v4),
      attributeU32(6, 100),
      attributeText(3, 'lo'),
    ]),
  ];
  return {
    name: 'netlink messages',
    inputs,
    draw: (random) => mutated(random, inputs),
    read: (input) => {
      const messages = decodeMessages(input as Uint8Array);
      const netlink: Netlink = { change: () => true, dump: () => messages, close: () => {} };
      listLinks(netlink);
      listAddresses(undefined, netlink);
      listRoutes({ family: 4 }, netlink);
      listRules(4, netlink);
    },
  };
}

const RELAY = 'relay: {id: r1, interface: pub0';
const ANCHORS =
  "[{id: a1, home: r1, endpoints: ['198.51.100.9', '2001:db8::9'], prefixes: ['198.51.100.16/28', '2001:db8:1::/120']}]";

const settings = texts(
  'configuration files',
  [
    `${RELAY}}\npools:\n  - name: p\n    sharing: whole\n    anchors: ${ANCHORS}\n`,
    `${RELAY}, engine: xdp, innerMtu: 1400, accessInterfaces: [acc0], ecn: normal, perSessionBitsPerSecond: 1000000}`,
    `{"relay": {"id": "r1", "interface": "pub0", "port": 4556, "tun": "mooring0"}, "logLevel": "debug"}`,
    `${RELAY}}\npools: [{name: p, sharing: shared, portBlock: 1024, spiBlock: 256, coolingMs: 120000, anchors: ${ANCHORS}}]`,
  ],
  (text) => void parseSettings(text),
);

const laptop = texts(
  'configuration files of the agent',
  [
    "signalling: {url: 'wss://door.example'}\nissuer: {tokenEndpoint: 'https://login.example/token', clientId: me, audience: 'https://m.example'}\npool: shared\nkind: rsipsec\n",
    '{"signalling": {"url": "wss://door.example/v1"}, "issuer": {"tokenEndpoint": "https://issuer.example/token", "clientId": "l", "privateKeyFile": "/etc/k.pem", "audience": "https://d"}, "pool": "whole", "kind": "rsa-ip", "routes": ["10.0.0.0/8"]}',
  ],
  (text) => void parseLaptopConfig(text),
);

const addresses = texts(
  'addresses',
  ['192.0.2.1', '2001:db8::1', '::ffff:192.0.2.1', '10.0.0.0/8', '2001:db8::/32', 'fe80::1%eth0', '0x7f.1'],
  (text) => {
    for (const read of [canonicalAddress, parsePrefix, (it: string) => socketAddress(it, 4556)]) {
      try {
        read(text);
      } catch (error) {
        if ((error as { code?: string }).code !== 'ERR_MOORING_BAD_INPUT') throw error;
      }
    }
  },
);

/** What devices and signalling nodes say to each other. */
export const frameTargets = (): Target[] => [fromDevices, fromServers];

/** What relays say to each other and to signalling nodes. */
export const planeTargets = (): Target[] => [relayPlane, handedOver()];

/** What the registry holds. */
export const recordTargets = (): Target[] => [registry, leases()];

/** What the kernel says, and addresses in text. */
export const machineTargets = (): Target[] => [netlinkMessages(), addresses];

/** What people write. */
export const configurationTargets = (): Target[] => [settings, laptop];
