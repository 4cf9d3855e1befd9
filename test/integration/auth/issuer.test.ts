import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { pino } from 'pino';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type RunningIssuer, startIssuer } from '../../../infra/issuer/issuer.ts';
import { createIssuerKeys, type IssuerKeys } from '../../../src/auth/issuer-keys.ts';
import { createTokenVerifier, type TokenVerifier } from '../../../src/auth/verifier.ts';
import {
  accessTokenHash,
  createIdentity,
  type DeviceIdentity,
  fetchToken,
  signProof,
} from './device-identity.ts';

const AUDIENCE = 'https://mooring.example/';
const DOOR = 'wss://door.example/v1';
const SOCKET = { nonce: 'nonce-1', url: DOOR, seal: 'x-of-the-sealing-key' };

let device: DeviceIdentity;
let issuer: RunningIssuer;
let verifier: TokenVerifier;

beforeEach(async () => {
  device = await createIdentity('laptop-1');
  issuer = await startIssuer({
    host: '127.0.0.1',
    port: 0,
    audience: AUDIENCE,
    devices: [{ clientId: 'laptop-1', tenant: 'acme', publicJwk: device.publicJwk }],
  });
  verifier = createTokenVerifier({
    issuers: [{ issuer: issuer.url, audience: AUDIENCE, algorithms: ['ES256'] }],
    clockToleranceS: 5,
    log: pino({ enabled: false }),
  });
});

afterEach(async () => {
  verifier.close();
  await issuer.close();
});

async function proofFor(token: string, nonce = SOCKET.nonce): Promise<string> {
  const ath = accessTokenHash(token);
  return signProof(device, { htm: 'GET', htu: DOOR, ath, nonce, seal: SOCKET.seal });
}

describe('a token of the real issuer', () => {
  it('with the device’s proof names device, tenant, key, expiry and scopes; keys come from its metadata', async () => {
    const token = await fetchToken(device, issuer, AUDIENCE);
    const principal = await verifier.verify(token, await proofFor(token), SOCKET);
    expect(principal).toMatchObject({
      device: { tenant: 'acme', id: 'laptop-1' },
      thumbprint: device.thumbprint,
      scopes: ['lease'],
    });
    expect(Math.abs(principal.expiresAtMs - Date.now() - 600_000)).toBeLessThan(10_000);
  });

  it('stolen, with a proof of the thief’s own key, is refused', async () => {
    const token = await fetchToken(device, issuer, AUDIENCE);
    const thief = await createIdentity('laptop-1');
    const ath = accessTokenHash(token);
    const proof = await signProof(thief, { htm: 'GET', htu: DOOR, ath, nonce: 'nonce-1', seal: SOCKET.seal });
    await expect(verifier.verify(token, proof, SOCKET)).rejects.toMatchObject({
      code: 'ERR_MOORING_DPOP_KEY_MISMATCH',
    });
  });

  it('with a proof replayed from another socket is refused', async () => {
    const token = await fetchToken(device, issuer, AUDIENCE);
    const replayed = await proofFor(token, 'nonce-of-the-first-socket');
    await expect(verifier.verify(token, replayed, SOCKET)).rejects.toMatchObject({
      code: 'ERR_MOORING_DPOP_NONCE',
    });
  });

  it('of an issuer that is not configured is refused, and nothing is fetched from it', async () => {
    const stranger = await startIssuer({
      host: '127.0.0.1',
      port: 0,
      audience: AUDIENCE,
      devices: [{ clientId: 'laptop-1', tenant: 'acme', publicJwk: device.publicJwk }],
    });
    try {
      const token = await fetchToken(device, stranger, AUDIENCE);
      await expect(verifier.verify(token, await proofFor(token), SOCKET)).rejects.toMatchObject({
        code: 'ERR_MOORING_TOKEN_ISSUER',
      });
    } finally {
      await stranger.close();
    }
  });

  it('is not given to a device whose key is not the registered one, nor for another audience', async () => {
    const impostor = await createIdentity('laptop-1');
    await expect(fetchToken(impostor, issuer, AUDIENCE)).rejects.toThrow(/invalid_client/);
    await expect(fetchToken(device, issuer, 'https://other.example/')).rejects.toThrow(/invalid_target/);
  });
});

describe('the issuer', () => {
  it('is reached over TLS of a private authority, and only if that authority is trusted', async () => {
    const directory = mkdtempSync('/tmp/mooring-issuer-');
    const [keyFile, certFile] = [`${directory}/key.pem`, `${directory}/cert.pem`];
    execFileSync(
      'openssl',
      [
        ...['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '1'],
        ...[
          '-keyout',
          keyFile,
          '-out',
          certFile,
          '-subj',
          '/CN=issuer',
          '-addext',
          'subjectAltName=IP:127.0.0.1',
        ],
      ],
      { stdio: 'ignore' },
    );
    const ca = readFileSync(certFile, 'utf8');
    const tls = { key: readFileSync(keyFile, 'utf8'), cert: ca };
    const secure = await startIssuer({ host: '127.0.0.1', port: 0, audience: AUDIENCE, devices: [], tls });
    const open = (trusted: string | undefined) =>
      createIssuerKeys({ issuer: secure.url, ca: trusted, log: pino({ enabled: false }) });
    const find = (keys: IssuerKeys) =>
      Promise.resolve(keys.keyFor({ alg: 'ES256' }, { payload: '', signature: '' })).finally(() =>
        keys.close(),
      );
    try {
      await expect(find(open(ca))).resolves.toBeDefined();
      await expect(find(open(undefined))).rejects.toMatchObject({ code: 'ERR_MOORING_ISSUER_UNREACHABLE' });
    } finally {
      await secure.close();
      rmSync(directory, { recursive: true });
    }
  });

  it('runs as a program that says where it listens and ends when told to', async () => {
    const directory = mkdtempSync('/tmp/mooring-issuer-');
    const devicesFile = `${directory}/devices.json`;
    writeFileSync(
      devicesFile,
      JSON.stringify([{ clientId: 'laptop-1', tenant: 'acme', publicJwk: device.publicJwk }]),
    );
    const program = spawn(
      process.execPath,
      ['--import', 'tsx', 'infra/issuer/main.ts', '--audience', AUDIENCE, '--devices', devicesFile],
      { stdio: ['ignore', 'pipe', 'ignore'] },
    );
    try {
      const [line] = (await once(program.stdout, 'data')) as [Buffer];
      const running = JSON.parse(line.toString()) as RunningIssuer;
      expect((await fetchToken(device, running, AUDIENCE)).split('.')).toHaveLength(3);
      program.kill('SIGTERM');
      expect(await once(program, 'exit')).toEqual([0, null]);
    } finally {
      program.kill('SIGKILL');
      rmSync(directory, { recursive: true });
    }
  });

  it('serves the same keys again from its keys file, so that tokens outlive its restart', async () => {
    const directory = mkdtempSync('/tmp/mooring-issuer-');
    const options = {
      host: '127.0.0.1',
      port: 0,
      audience: AUDIENCE,
      devices: [],
      keysFile: `${directory}/keys`,
    };
    try {
      const jwks = [];
      for (let start = 0; start < 2; start += 1) {
        const running = await startIssuer(options);
        jwks.push(await (await fetch(running.jwksUri)).json());
        await running.close();
      }
      expect(jwks[0]).toEqual(jwks[1]);
      expect(JSON.stringify(jwks[0])).not.toContain('"d"');
    } finally {
      rmSync(directory, { recursive: true });
    }
  });
});
