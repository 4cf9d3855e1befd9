import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
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
import { monotonicMs } from '../../src/telemetry/clock.ts';
import { createIdentity, signProof } from '../integration/auth/device-identity.ts';
import { factsOf, type LeaseFacts, type Operation, type Recorder } from './history.ts';
import { openSceneRegistry } from './open-registry.ts';
import { recordedRegistry } from './recorded-registry.ts';
import { quicker, type Scene, settingsOf } from './scene.ts';

/** A signalling node of a scene, without its sockets: what its handlers need, and what they answer written down. */
export async function openDoor(
  scene: Scene,
  name: string,
  recorder: Recorder,
): Promise<Door & { close(): Promise<void> }> {
  const log = pino({ name }, pino.destination({ dest: join(scene.folder, `${name}.log`), sync: true }));
  const settings = quicker(parseSettings(JSON.stringify(settingsOf(scene, null))), scene);
  const opened = await openSceneRegistry(scene, `mooring-${name}`, log);
  const registry = recordedRegistry(opened, name, recorder, () => 'both');
  const planes = createPlanes(settings, registry, log, () => undefined);
  return {
    url: 'https://door.example',
    verifier: { verify: () => Promise.reject(new Error('nobody says hello here')) },
    registry,
    owners: createOwners(registry, (relay) => planes.for(relay)),
    pools: new Map(settings.pools.map((pool) => [pool.name, pool])),
    limits: SIGNALLING_LIMITS,
    answered: () => undefined,
    log,
    random: (octets) => randomBytes(octets),
    nowMs: monotonicMs,
    wallMs: Date.now,
    async close() {
      planes.close();
      await opened.close();
    },
  };
}

/** A device that has said hello, with keys of its own. */
export async function callerOf(device: string): Promise<Caller> {
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

/** A failure without a name: a device is told nothing that it could act on. */
export const UNNAMED = 'unnamed: ';
/** Longest wait before the same request goes out again, milliseconds. */
const PATIENCE_MS = 250;

/**
 * Sends a request again and again until it is answered for good, or `sendings` are over, and writes down what became of
 * it. Resolves with the lease that the answer holds.
 */
export async function persist(
  recorder: Recorder,
  asked: Pick<Operation, 'op' | 'device' | 'leaseMs'>,
  about: LeaseFacts | undefined,
  sendings: () => Iterable<unknown>,
  send: () => Promise<{ readonly lease?: Lease }>,
): Promise<{ outcome: Operation['outcome']; code: string; lease?: Lease }> {
  const askedMs = monotonicMs();
  if (asked.op === 'free' && about !== undefined)
    recorder.write({ type: 'lets-go', atMs: askedMs, lease: about.id });
  let code = '';
  const end = (outcome: Operation['outcome'], lease?: Lease) => {
    const facts = lease === undefined ? about : factsOf(lease);
    recorder.write({
      ...{ type: 'operation', ...asked, askedMs, atMs: monotonicMs(), outcome, code },
      ...(facts === undefined ? {} : { lease: facts }),
    });
    return { outcome, code, ...(lease === undefined ? {} : { lease }) };
  };
  for (const _ of sendings()) {
    try {
      return end('done', (await send()).lease);
    } catch (error) {
      code = error instanceof MooringError ? error.code : `${UNNAMED}${String(error)}`;
      if (error instanceof MooringError && !error.temporary) return end('refused');
      const afterMs = error instanceof MooringError ? error.retryAfterMs : undefined;
      const waitMs = Math.min(afterMs ?? PATIENCE_MS, PATIENCE_MS) * (0.5 + Math.random());
      if (code.startsWith(UNNAMED)) end('unknown');
      await new Promise((resolve) => setTimeout(resolve, waitMs));
    }
  }
  return end('unknown');
}
