/**
 * Devices behind a signalling node of their own: each asks for leases, extends, attaches and frees, again and again
 * until it is answered, through the same handlers that a socket's frames go through.
 */
import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { exportJWK, generateKeyPair } from 'jose';
import pino from 'pino';
import { createPlanes } from '../../src/cli/planes.ts';
import { parseSettings } from '../../src/config/load.ts';
import { MooringError } from '../../src/protocol/errors.ts';
import type { Lease } from '../../src/protocol/lease.ts';
import type { SealingKey } from '../../src/protocol/relay-plane.ts';
import type { Caller, Door } from '../../src/signalling/door.ts';
import { SIGNALLING_LIMITS } from '../../src/signalling/limits.ts';
import { createOwners } from '../../src/signalling/owners.ts';
import { attach } from '../../src/signalling/requests/attach.ts';
import { extend } from '../../src/signalling/requests/extend.ts';
import { free } from '../../src/signalling/requests/free.ts';
import { lease } from '../../src/signalling/requests/lease.ts';
import { monotonicMs } from '../../src/telemetry/clock.ts';
import { createIdentity, signProof } from '../integration/auth/device-identity.ts';
import { factsOf, type LeaseFacts, type Operation, recordIn } from './history.ts';
import { openSceneRegistry } from './open-registry.ts';
import { numbersFrom } from './random.ts';
import { recordedRegistry } from './recorded-registry.ts';
import { quicker, type Scene, settingsOf } from './scene.ts';

const [sceneText = '', name = '', countText = '', seedText = ''] = process.argv.slice(2);
const scene = JSON.parse(sceneText) as Scene;
process.on('disconnect', () => process.exit(1));
let going = true;
process.on('message', () => {
  going = false;
});

/** Longest wait before the same request goes out again, milliseconds. */
const PATIENCE_MS = 250;
/** Sendings of one request. */
const SENDINGS = 24;

const recorder = recordIn(scene.folder, name);
const log = pino({ name }, pino.destination({ dest: join(scene.folder, `${name}.log`), sync: true }));
const settings = quicker(parseSettings(JSON.stringify(settingsOf(scene, null))), scene);
const opened = await openSceneRegistry(scene, `mooring-${name}`, log);
const registry = recordedRegistry(opened, name, recorder, () => 'both');
const planes = createPlanes(settings, registry, log, () => undefined);
const door: Door = {
  url: 'https://door.example',
  verifier: { verify: () => Promise.reject(new Error('nobody says hello here')) },
  registry,
  owners: createOwners(registry, (relay) => planes.for(relay)),
  pools: new Map(settings.pools.map((pool) => [pool.name, pool])),
  limits: SIGNALLING_LIMITS,
  log,
  random: (octets) => randomBytes(octets),
  nowMs: monotonicMs,
  wallMs: Date.now,
};

async function callerOf(device: string): Promise<Caller> {
  const [identity, sealing] = await Promise.all([
    createIdentity(device),
    generateKeyPair('ECDH-ES', { crv: 'X25519', extractable: true }),
  ]);
  const key = (await exportJWK(sealing.publicKey)) as SealingKey;
  return {
    principal: {
      device: { tenant: 't', id: device },
      thumbprint: identity.thumbprint,
      expiresAtMs: Date.now() + 3_600_000,
    } as Caller['principal'],
    sealing: {
      key: { kty: 'OKP', crv: 'X25519', x: key.x },
      proof: await signProof(identity, { seal: key.x }),
    },
    leases: new Map(),
    freeing: new Set(),
  };
}

async function live(device: string, seed: number): Promise<void> {
  const { below } = numbersFrom(seed);
  let caller = await callerOf(device);
  const held = new Map<string, { lease: Lease; untilMs: number }>();
  let frame = 0;

  /** Sends the same request until it is answered for good. */
  async function persist<T extends { readonly lease?: Lease }>(
    op: Operation['op'],
    about: LeaseFacts | undefined,
    send: () => Promise<T>,
  ): Promise<Lease | undefined> {
    const askedMs = monotonicMs();
    const of = { type: 'operation', op, device: `t/${device}`, askedMs } as const;
    const asks = op === 'extend' ? { leaseMs: scene.leaseMs } : {};
    let code = '';
    for (let sending = 1; sending <= SENDINGS && going; sending += 1) {
      try {
        const answer = await send();
        const facts = answer.lease === undefined ? about : factsOf(answer.lease);
        recorder.write({
          ...of,
          ...asks,
          atMs: monotonicMs(),
          outcome: 'done',
          ...(facts ? { lease: facts } : {}),
        });
        return answer.lease;
      } catch (error) {
        if (!(error instanceof MooringError)) throw error;
        code = error.code;
        if (!error.temporary) {
          const ends = { outcome: 'refused', code, ...(about ? { lease: about } : {}) } as const;
          recorder.write({ ...of, ...asks, atMs: monotonicMs(), ...ends });
          if (about !== undefined) held.delete(about.id);
          return undefined;
        }
        await wait(Math.min(error.retryAfterMs ?? PATIENCE_MS, PATIENCE_MS) * (0.5 + below(100) / 100));
      }
    }
    const ends = { outcome: 'unknown', code, ...(about ? { lease: about } : {}) } as const;
    recorder.write({ ...of, ...asks, atMs: monotonicMs(), ...ends });
    return undefined;
  }

  const keep = (one: Lease) => held.set(one.id, { lease: one, untilMs: monotonicMs() + one.remainingMs });

  while (going) {
    for (const [id, { untilMs }] of held) if (untilMs - monotonicMs() < 1_000) held.delete(id);
    const all = [...held.values()];
    const one = all[below(all.length || 1)]?.lease;
    const about = one === undefined ? undefined : factsOf(one);
    const dice = below(10);
    frame += 1;
    if (one === undefined || (all.length < 2 && dice < 4)) {
      const pool = below(2) === 0 ? 'whole' : 'shared';
      const kind = pool === 'whole' ? 'rsa-ip' : 'rsipsec';
      const request = randomBytes(16).toString('hex');
      const granted = await persist('lease', undefined, () =>
        lease({ type: 'lease', id: frame, request, pool, kind }, caller, door),
      );
      if (granted !== undefined) keep(granted);
    } else if (dice < 7) {
      const extended = await persist('extend', about, () =>
        extend({ type: 'extend', id: frame, lease: one.id }, caller, door),
      );
      if (extended !== undefined) keep(extended);
    } else if (dice < 8) {
      // Every other time with another key: its session is replaced.
      if (below(2) === 0) caller = await callerOf(device);
      const attached = await persist('attach', about, () =>
        attach({ type: 'attach', id: frame, lease: one.id }, caller, door),
      );
      if (attached !== undefined && held.has(one.id)) keep(attached);
    } else {
      held.delete(one.id);
      await persist('free', about, async () => {
        await free({ type: 'free', id: frame, lease: one.id }, caller, door);
        return {};
      });
    }
    await wait(below(60));
  }
}

process.send?.('up');
const seed = Number(seedText);
await Promise.all(
  Array.from({ length: Number(countText) }, (_, at) => live(`${name}-${at + 1}`, seed * 1_000 + at)),
);
process.exit(0);
