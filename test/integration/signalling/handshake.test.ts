import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { WebSocket } from 'ws';
import type { SignallingLimits } from '../../../src/signalling/limits.ts';
import { createSignalling } from '../../../src/signalling/signalling.ts';
import { scripted } from './scripted-registry.ts';
import {
  type Authority,
  DOOR_URL,
  observe,
  openDoor,
  SILENT,
  startAuthority,
  type TestDoor,
} from './test-door.ts';

let authority: Authority;
const doors: TestDoor[] = [];
let directory: string;

beforeAll(async () => {
  authority = await startAuthority(1);
  directory = mkdtempSync('/tmp/mooring-door-');
});
afterAll(async () => {
  await authority.close();
  rmSync(directory, { recursive: true });
});
afterEach(async () => {
  for (const door of doors.splice(0)) await door.close();
});

async function open(limits: Partial<SignallingLimits> = {}): Promise<TestDoor> {
  const door = await openDoor({ ...scripted(), verifier: authority.verifier, limits });
  doors.push(door);
  return door;
}

const UPGRADE = [
  'GET /v1 HTTP/1.1',
  'Host: door.example',
  'Connection: Upgrade',
  'Upgrade: websocket',
  'Sec-WebSocket-Version: 13',
  'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==',
  'Sec-WebSocket-Protocol: mooring.v1',
  '',
  '',
].join('\r\n');

/** Resolves with all octets that came until the other side ended the connection. */
async function untilEnd(socket: Socket): Promise<string> {
  let text = '';
  socket.on('data', (chunk) => {
    text += chunk;
  });
  socket.on('error', () => {});
  if (!socket.closed) await once(socket, 'close');
  return text;
}

describe('the handshake', () => {
  it('refuses a client that offers no subprotocol or another one, and says which to offer', async () => {
    const door = await open();
    for (const protocols of [[], ['mooring.v2'], ['graphql-ws', 'mqtt']]) {
      await expect(door.connect({ protocols })).rejects.toThrow('HTTP 400: offer mooring.v1');
    }
  });

  it('chooses mooring.v1 wherever it stands among those offered', async () => {
    const door = await open();
    const { ws } = await door.connect({ protocols: ['mqtt', 'mooring.v1'] });
    expect(ws.protocol).toBe('mooring.v1');
  });

  it('is served at the path of the URL only', async () => {
    const door = await open();
    await expect(door.connect({ path: '/' })).rejects.toThrow('HTTP 404: the door is at /v1');
    await expect(door.connect({ path: '/v1?from=load-balancer' })).resolves.toBeDefined();
  });

  it('agrees on no compression, whoever offers it', async () => {
    const door = await open();
    expect((await door.connect({ perMessageDeflate: true })).ws.extensions).toBe('');
  });

  it('loses no frame that comes in the same packet as the upgrade', async () => {
    const door = await open();
    const socket = connect(door.port, '127.0.0.1');
    const text = untilEnd(socket);
    const frame = Buffer.from('{}');
    socket.write(
      Buffer.concat([Buffer.from(UPGRADE), Buffer.from([0x81, 0x80 | frame.length, 0, 0, 0, 0]), frame]),
    );
    expect(await text).toContain('type is of type undefined');
  });

  it('leaves plain HTTP with a health page and nothing else', async () => {
    const door = await open();
    const health = await fetch(`http://127.0.0.1:${door.port}/healthz`);
    expect([health.status, await health.json()]).toEqual([200, { status: 'serving' }]);
    expect((await fetch(`http://127.0.0.1:${door.port}/v1`)).status).toBe(404);
  });
});

describe('strangers', () => {
  it('of one address are bounded, and a device that said who it is does not count', async () => {
    const door = await open({ strangersPerAddress: 3 });
    const introduced = await door.connect();
    await introduced.hello(authority.devices[0]!, authority);
    const strangers = [await door.connect(), await door.connect(), await door.connect()];
    expect(await untilEnd(connect(door.port, '127.0.0.1'))).toBe('');
    expect(strangers.every(({ ws }) => ws.readyState === ws.OPEN)).toBe(true);
    strangers[0]!.ws.terminate();
    await expect
      .poll(() =>
        door.connect().then(
          () => 'open',
          () => 'refused',
        ),
      )
      .toBe('open');
  });

  it('that send a request octet by octet are cut off', async () => {
    const door = await open({ headersTimeoutMs: 200, requestTimeoutMs: 400 });
    const socket = connect(door.port, '127.0.0.1');
    socket.write('GET /v1 HTTP/1.1\r\nX-Slow: ');
    const drip = setInterval(() => socket.write('x'), 20);
    const answer = await untilEnd(socket);
    clearInterval(drip);
    expect(answer).toMatch(/^(HTTP\/1\.1 408|$)/);
  });

  it('that say nothing at all are cut off', async () => {
    const door = await open({ headersTimeoutMs: 200, requestTimeoutMs: 400 });
    expect(await untilEnd(connect(door.port, '127.0.0.1'))).toMatch(/^(HTTP\/1\.1 408|$)/);
  });
});

describe('TLS', () => {
  const files = () => ({ keyFile: `${directory}/key.pem`, certFile: `${directory}/cert.pem` });
  const options = () => ({
    ...scripted(),
    url: DOOR_URL.replace('ws:', 'wss:'),
    verifier: authority.verifier,
    pools: [],
    log: SILENT,
  });

  beforeAll(() => {
    execFileSync(
      'openssl',
      [
        ...['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '1'],
        ...['-keyout', files().keyFile, '-out', files().certFile],
        ...['-subj', '/CN=localhost', '-addext', 'subjectAltName=IP:127.0.0.1'],
      ],
      { stdio: 'ignore' },
    );
  });

  it('serves the door from key and certificate files, and a device that was introduced is counted off', async () => {
    const signalling = createSignalling({
      ...options(),
      listen: { host: '127.0.0.1', port: 0 },
      tls: files(),
      limits: { strangersPerAddress: 1, socketsPerDevice: 2 },
    });
    const { port } = await signalling.listen();
    try {
      const ca = readFileSync(files().certFile);
      for (let count = 0; count < 2; count += 1) {
        const ws = new WebSocket(`wss://127.0.0.1:${port}/v1`, ['mooring.v1'], { ca });
        const socket = await observe(ws);
        expect(await socket.hello(authority.devices[0]!, authority)).toMatchObject({ type: 'result' });
      }
    } finally {
      await signalling.close(0);
    }
  });

  it('forgets a stranger who left, whether his handshake was finished or not', async () => {
    const signalling = createSignalling({
      ...options(),
      listen: { host: '127.0.0.1', port: 0 },
      tls: files(),
      limits: { strangersPerAddress: 1 },
    });
    const { port } = await signalling.listen();
    const ca = readFileSync(files().certFile);
    const visit = async () => {
      const ws = new WebSocket(`wss://127.0.0.1:${port}/v1`, ['mooring.v1'], { ca });
      ws.on('error', () => {});
      await once(ws, 'open');
      ws.terminate();
    };
    try {
      for (let count = 0; count < 3; count += 1) {
        await expect
          .poll(
            () =>
              visit().then(
                () => 'open',
                () => 'refused',
              ),
            { timeout: 5_000 },
          )
          .toBe('open');
        const half = connect(port, '127.0.0.1', () => half.destroy());
        await untilEnd(half);
      }
    } finally {
      await signalling.close(0);
    }
  });

  it('cuts off who does not finish the TLS handshake', async () => {
    const signalling = createSignalling({
      ...options(),
      listen: { host: '127.0.0.1', port: 0 },
      tls: files(),
      limits: { headersTimeoutMs: 200 },
    });
    const { port } = await signalling.listen();
    try {
      expect(await untilEnd(connect(port, '127.0.0.1'))).toBe('');
    } finally {
      await signalling.close(0);
    }
  });

  it('is demanded except on loopback, and the error names the ways out', () => {
    for (const host of ['0.0.0.0', '::', '192.0.2.1']) {
      expect(() => createSignalling({ ...options(), listen: { host, port: 0 } })).toThrow(
        /listen on .* without TLS; give tls.certFile and tls.keyFile, listen on 127.0.0.1, or set plaintext: true/,
      );
    }
    for (const host of ['127.0.0.1', '::1', 'localhost', '127.9.9.9']) {
      expect(() => createSignalling({ ...options(), listen: { host, port: 0 } })).not.toThrow();
    }
    expect(() =>
      createSignalling({ ...options(), listen: { host: '::', port: 0 }, plaintext: true }),
    ).not.toThrow();
  });

  it('with a file that cannot be read is an error that names the setting', () => {
    const tls = { ...files(), keyFile: '/nonexistent/key.pem' };
    expect(() => createSignalling({ ...options(), listen: { host: '::', port: 0 }, tls })).toThrow(
      /tls.keyFile: "\/nonexistent\/key.pem" is not valid; name a readable PEM file \(ENOENT\)/,
    );
  });
});
