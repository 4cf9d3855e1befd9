import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { exportJWK } from 'jose';
import { pino } from 'pino';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { WebSocket } from 'ws';
import { obtainLease } from '../../../clients/laptop/obtain-lease.ts';
import { deviceKey, readHeldLease, StateDir, writeHeldLease } from '../../../clients/laptop/state-dir.ts';
import { createTokenClient } from '../../../clients/laptop/token.ts';
import { createDevice, type Device, type DeviceEvent } from '../../../clients/sdk/device.ts';
import { generateDpopKey } from '../../../clients/sdk/dpop.ts';
import type { WebSocketLike } from '../../../clients/sdk/web-socket.ts';
import type { RelayPlane } from '../../../src/protocol/relay-plane.ts';
import { openRegistry } from '../../../src/registry/open.ts';
import type { Registry } from '../../../src/registry/registry.ts';
import { sealRoot } from '../../../src/relay/root-sealing.ts';
import { deriveRoot } from '../../../src/tunnel/keys.ts';
import {
  AUDIENCE,
  type Authority,
  DOOR_URL,
  openDoor,
  SILENT,
  startAuthority,
  type TestDoor,
} from '../signalling/test-door.ts';

const ANCHOR_KEY = new Uint8Array(32).fill(7);
const BOOT = '0123456789abcdef';
const POOL = { pool: 'whole', kind: 'rsa-ip' } as const;

let authority: Authority;
let directory: string;
let registry: Registry;
let door: TestDoor;
let epoch: bigint;
const devices: Device[] = [];

beforeAll(async () => {
  directory = mkdtempSync('/tmp/mooring-token-');
  authority = await startAuthority(1);
  registry = await openRegistry({ dataDir: join(directory, 'registry'), log: SILENT });
  await registry.declareAnchor({
    id: 'anchor-1',
    pool: 'whole',
    sharing: 'whole',
    prefixes: ['198.51.100.64/28'],
    endpoints: ['203.0.113.1'],
    home: 'relay-1',
  });
  await registry.declareAnchor({
    ...{ id: 'anchor-2', pool: 'shared', sharing: 'shared', home: 'relay-1' },
    ...{ portBlock: 8_192, maxPortBlock: 16_384 },
    ...{ prefixes: ['198.51.100.80/32'], endpoints: ['203.0.113.2'] },
  });
  for (const anchor of ['anchor-1', 'anchor-2']) {
    ({ epoch } = await registry.claim(anchor, 'relay-1', BOOT, 600_000));
  }
  const identity = authority.devices[0]!;
  writeFileSync(join(directory, 'client.json'), JSON.stringify(await exportJWK(identity.privateKey)));
});
afterAll(async () => {
  await registry.close();
  await authority.close();
  rmSync(directory, { recursive: true, force: true });
});

beforeEach(async () => {
  door = await openDoor({
    registry,
    planeFor: async () => plane(),
    verifier: authority.verifier,
    pools: ['whole', 'shared'].map((name) => ({
      ...{ name, leaseMs: { default: 60_000, max: 120_000 }, maxLeasesPerDevice: 4 },
    })),
  });
});
afterEach(async () => {
  for (const device of devices.splice(0)) device.close();
  await door.close();
});

/** An owner relay without packets: it seals the real K_root. */
function plane(): RelayPlane {
  const nothing = async () => ({});
  return {
    async install({ lease, session, sealing }) {
      const active =
        lease.state === 'active' ? lease : await registry.activate(lease.anchor, lease.id, epoch);
      if (sealing === undefined) return { lease: active };
      const root = deriveRoot(ANCHOR_KEY, session);
      return {
        lease: active,
        tunnel: {
          endpoints: [{ address: '203.0.113.1', port: 4556 }],
          index: session.index,
          sessionId: session.id,
          epoch: String(epoch),
          mtu: 1280,
          sealedRoot: sealRoot(root, sealing.key, session.id),
        },
      };
    },
    apply: nothing,
    rebind: nothing,
    prepare: nothing,
    promise: async () => ({ promised: [] }),
    adopt: nothing,
  };
}

const issuerSettings = () => ({
  tokenEndpoint: authority.issuer.tokenEndpoint,
  clientId: 'laptop-1',
  privateKeyFile: join(directory, 'client.json'),
  audience: AUDIENCE,
  scope: 'lease',
});

/** The state of a device on which nobody has signed in. */
const nowhere = () => new StateDir(mkdtempSync(join(directory, 'state-')));

/** A laptop's device with its state in `state`. */
async function start(state: StateDir, onEvent: (event: DeviceEvent) => void = () => {}): Promise<Device> {
  const tokens = createTokenClient(issuerSettings(), await deviceKey(state), state);
  const device = await createDevice({
    url: DOOR_URL,
    // The door is known by a name that only resolves in the world outside this test.
    connect: (_url, subprotocol) =>
      new WebSocket(`ws://127.0.0.1:${door.port}/v1`, subprotocol) as WebSocketLike,
    credentials: tokens.credentials,
    onEvent,
    backOff: { firstMs: 20, longestMs: 100 },
  });
  devices.push(device);
  return device;
}

let states = 0;
const newState = (): StateDir => {
  states += 1;
  return new StateDir(join(directory, `state-${states}`));
};

describe('an access token', () => {
  test("is fetched with the issuer's nonce, and kept while it is good", async () => {
    const tokens = createTokenClient(issuerSettings(), await generateDpopKey(), nowhere());
    const first = await tokens.credentials(false);
    expect(first.token.split('.')).toHaveLength(3);
    expect((await tokens.credentials(false)).token).toBe(first.token);
    expect((await tokens.credentials(true)).token).not.toBe(first.token);
  });

  test('refused for good names the settings to check, and does not show the key', async () => {
    const tokens = createTokenClient(
      { ...issuerSettings(), clientId: 'nobody' },
      await generateDpopKey(),
      nowhere(),
    );
    const refusal = await tokens.credentials(false).catch((error: unknown) => error);
    expect(refusal).toMatchObject({ code: 'ERR_MOORING_TOKEN', temporary: false });
    expect(String(refusal)).toMatch(/invalid_client.*check issuer\.clientId/);
    const { d } = JSON.parse(readFileSync(join(directory, 'client.json'), 'utf8')) as { d: string };
    expect(JSON.stringify(refusal) + String(refusal)).not.toContain(d);
  });

  test('from an issuer out of reach is worth another try', async () => {
    const tokens = createTokenClient(
      { ...issuerSettings(), tokenEndpoint: 'http://127.0.0.1:9/token' },
      await generateDpopKey(),
      nowhere(),
    );
    await expect(tokens.credentials(false)).rejects.toMatchObject({
      code: 'ERR_MOORING_TOKEN',
      temporary: true,
      message: expect.stringContaining('127.0.0.1:9/token cannot be reached'),
    });
  });

  test.each([
    ['is not there', 'missing.pem', null],
    ['is no key', 'noise.pem', 'noise'],
    ['has another curve', 'p384.json', '{"kty":"EC","crv":"P-384","x":"AA","y":"AA","d":"AA"}'],
  ])('needs a private key file: one that %s is refused by name', async (_what, name, text) => {
    const privateKeyFile = join(directory, name);
    if (text !== null) writeFileSync(privateKeyFile, text);
    const key = await generateDpopKey();
    expect(() => createTokenClient({ ...issuerSettings(), privateKeyFile }, key, nowhere())).toThrow(
      /issuer\.privateKeyFile: .* cannot be used; name a readable P-256 or Ed25519 private key/,
    );
  });
});

describe("the device's key", () => {
  test('is made once, and nobody else can read it', async () => {
    const state = newState();
    const made = await deviceKey(state);
    expect((await deviceKey(state)).thumbprint).toBe(made.thumbprint);
    expect(statSync(state.file('device-key.json')).mode & 0o777).toBe(0o600);
    expect(statSync(state.path).mode & 0o777).toBe(0o700);
    expect(made.publicJwk).not.toHaveProperty('d');
  });
});

describe('a lease', () => {
  test('comes with the K_root that the relay derives', async () => {
    const state = newState();
    const held = await obtainLease(await start(state), POOL, state, SILENT);
    const { thumbprint } = await deviceKey(state);
    const { sessions } = await registry.snapshot('anchor-1');
    const session = sessions.find(({ id }) => id === held.lease.session)!;
    expect(session.thumbprint).toBe(thumbprint);
    expect(held.root).toEqual(deriveRoot(ANCHOR_KEY, session));
    await held.free();
  });

  test('is the same one after the process died and started again', async () => {
    const state = newState();
    const before = await obtainLease(await start(state), POOL, state, SILENT);
    devices.splice(0)[0]!.close();
    const after = await obtainLease(await start(state), POOL, state, SILENT);
    expect(after.lease.id).toBe(before.lease.id);
    expect(after.root).toEqual(before.root);
    await after.free();
  });

  test('is granted once, also when the process died between the wish and its answer', async () => {
    const state = newState();
    const before = await obtainLease(await start(state), POOL, state, SILENT);
    const { request } = readHeldLease(state)!;
    devices.splice(0)[0]!.close();
    writeHeldLease(state, { request, ...POOL, lease: null });
    const after = await obtainLease(await start(state), POOL, state, SILENT);
    expect(after.lease.id).toBe(before.lease.id);
    await after.free();
  });

  test('that is gone meanwhile is replaced by a new one', async () => {
    const state = newState();
    const before = await obtainLease(await start(state), POOL, state, SILENT);
    await before.free();
    const after = await obtainLease(await start(state), POOL, state, SILENT);
    expect(after.lease.id).not.toBe(before.lease.id);
    await after.free();
  });

  test('is extended by itself, again and again', async () => {
    const state = newState();
    const extended: string[] = [];
    const device = await start(state, (event) => {
      if (event.type === 'extended') extended.push(event.lease.id);
    });
    const held = await obtainLease(device, { ...POOL, leaseMs: 1_200 }, state, SILENT);
    await expect.poll(() => extended.length, { timeout: 10_000 }).toBeGreaterThanOrEqual(1);
    expect(new Set(extended)).toEqual(new Set([held.lease.id]));
    expect(held.lease.remainingMs).toBeLessThanOrEqual(1_200);
    await held.free();
  });

  test('has more ports when its program asks for them, beside those that it has', async () => {
    const events: DeviceEvent[] = [];
    const device = await start(newState(), (event) => events.push(event));
    const wish = { pool: 'shared', kind: 'rsap-ip' } as const;
    const first = await device.lease({ request: 'a1'.repeat(16), ...wish });
    const held = await device.lease({ request: 'a2'.repeat(16), ...wish });
    const before = held.lease;
    const ports = { first: before.ports!.first, count: 16_384 };
    for (let time = 0; time < 2; time += 1) {
      const { remainingMs, fence, ...wider } = await held.widen(10_000);
      expect({ ...before, ports }).toMatchObject(wider);
    }
    expect(held.lease.ports).toEqual(ports);
    expect(events.filter(({ type }) => type === 'extended')).toHaveLength(2);
    const refusal = { rsip: 309, temporary: false };
    await expect(first.widen(10_000), 'what is below is never leased').rejects.toMatchObject(refusal);
    await expect(held.widen(16_385)).rejects.toMatchObject(refusal);
    await Promise.all([first.free(), held.free()]);
  });

  test('has as many ports as its configuration wishes for, or as it can have', async () => {
    const wish = { pool: 'shared', kind: 'rsap-ip' } as const;
    const counts = [];
    for (const ports of [10_000, 40_000]) {
      const state = newState();
      const held = await obtainLease(await start(state), { ...wish, ports }, state, SILENT);
      counts.push(held.lease.ports!.count);
      await held.free();
    }
    expect(counts).toEqual([16_384, 8_192]);
  });

  test('is extended as soon as the machine wakes, and asked for anew if it ended in its sleep', async () => {
    const state = newState();
    const events: DeviceEvent[] = [];
    const device = await start(state, (event) => events.push(event));
    const held = await obtainLease(device, POOL, state, SILENT);
    device.woke(30_000);
    await expect.poll(() => events.filter(({ type }) => type === 'extended')).toHaveLength(1);
    await registry.revoke({ leaseId: held.lease.id });
    device.woke(7_200_000);
    await expect
      .poll(() => events.filter(({ type }) => type === 'ended'))
      .toEqual([{ type: 'ended', lease: held.lease.id, reason: 'expired' }]);
  });

  test('from a pool that does not exist is refused with the remedy, and not asked for again', async () => {
    const state = newState();
    const device = await start(state);
    await expect(obtainLease(device, { ...POOL, pool: 'nowhere' }, state, SILENT)).rejects.toMatchObject({
      code: 'ERR_MOORING_UNKNOWN_POOL',
      temporary: false,
    });
  });

  test('leaves no secret in the log', async () => {
    const lines: string[] = [];
    const log = pino({ level: 'trace' }, { write: (line: string) => void lines.push(line) });
    const state = newState();
    const held = await obtainLease(await start(state), POOL, state, log);
    writeHeldLease(state, { request: 'f'.repeat(32), ...POOL, lease: `anchor-1.${'x'.repeat(22)}` });
    await obtainLease(await start(state), POOL, state, log);
    expect(lines.length).toBeGreaterThan(0);
    const { d } = JSON.parse(readFileSync(state.file('device-key.json'), 'utf8')) as { d: string };
    const text = lines.join('');
    for (const secret of [
      d,
      Buffer.from(held.root).toString('hex'),
      Buffer.from(held.root).toString('base64url'),
    ]) {
      expect(text).not.toContain(secret);
    }
  });
});
