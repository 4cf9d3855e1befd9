import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pino } from 'pino';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { createAuthority, type Leaf } from '../../../infra/lab/certificates.ts';
import { MooringError } from '../../../src/protocol/errors.ts';
import type { OperatorPlane, RelayPlane } from '../../../src/protocol/relay-plane.ts';
import type { LeaseEnded } from '../../../src/relay/plane-calls.ts';
import { connectPlane, type PlaneClient } from '../../../src/relay/plane-client.ts';
import { type PlaneServer, servePlane } from '../../../src/relay/plane-server.ts';

const log = pino({ level: 'silent' });
const directory = mkdtempSync(join(tmpdir(), 'mooring-plane-'));
const within = (name: string) => {
  mkdirSync(join(directory, name), { recursive: true });
  return { file: (file: string) => join(directory, name, file) };
};

let port = 0;
let caFile = '';
let server: PlaneServer;
const leaves: Record<string, Leaf> = {};
const calls: [string, unknown][] = [];
let answer: (call: string) => unknown = () => ({});

const plane = Object.fromEntries(
  ['install', 'apply', 'rebind', 'prepare', 'adopt', 'handOver', 'claim'].map((call) => [
    call,
    async (params: unknown) => {
      calls.push([call, params]);
      return answer(call);
    },
  ]),
) as unknown as RelayPlane & OperatorPlane;

const clients: PlaneClient[] = [];
function client(leaf: Leaf, authority = caFile, onEnded?: (event: LeaseEnded) => void): PlaneClient {
  const made = connectPlane({
    url: `wss://127.0.0.1:${port}`,
    tls: { ...leaf, caFile: authority },
    log,
    ...(onEnded === undefined ? {} : { onEnded }),
  });
  clients.push(made);
  return made;
}

async function freePort(): Promise<number> {
  const probe = createServer();
  await new Promise<void>((resolve) => probe.listen(0, '127.0.0.1', resolve));
  const address = probe.address();
  await new Promise((resolve) => probe.close(resolve));
  return typeof address === 'object' && address !== null ? address.port : 0;
}

beforeAll(async () => {
  const authority = await createAuthority(within('ours'));
  const stranger = await createAuthority(within('theirs'));
  caFile = authority.certFile;
  for (const name of ['relay:r1', 'relay:r2', 'signalling:s1', 'admin:console', 'printer']) {
    leaves[name] = await authority.issue(name, ['127.0.0.1']);
  }
  leaves.stranger = await stranger.issue('relay:r2', ['127.0.0.1']);
  port = await freePort();
  server = await servePlane({
    listen: { host: '127.0.0.1', port },
    tls: { ...leaves['relay:r1']!, caFile },
    plane,
    log,
  });
});

afterAll(async () => {
  for (const one of clients) one.close();
  await server?.close();
  rmSync(directory, { recursive: true, force: true });
});

beforeEach(() => {
  calls.length = 0;
  answer = () => ({});
});

describe('the relay plane between processes', () => {
  it('carries a call and its answer', async () => {
    await client(leaves['signalling:s1']!).apply({
      anchor: 'a1',
      event: { type: 'owned', fence: '1-1', relay: 'r1' },
    });
    expect(calls).toEqual([['apply', { anchor: 'a1', event: { type: 'owned', fence: '1-1', relay: 'r1' } }]]);
  });

  it('carries an error with its code, number and whether to try again', async () => {
    answer = () => {
      throw new MooringError('ERR_MOORING_NOT_OWNER', 'not here', {
        rsip: 104,
        temporary: true,
        retryAfterMs: 7,
      });
    };
    await expect(client(leaves['signalling:s1']!).prepare({ anchor: 'a1' })).rejects.toMatchObject({
      code: 'ERR_MOORING_FORBIDDEN',
    });
    await expect(client(leaves['relay:r2']!).prepare({ anchor: 'a1' })).rejects.toMatchObject({
      code: 'ERR_MOORING_NOT_OWNER',
      rsip: 104,
      temporary: true,
      retryAfterMs: 7,
    });
  });

  it('does not let a signalling node hand an anchor over', async () => {
    const signalling = client(leaves['signalling:s1']!);
    await expect(signalling.adopt({ anchor: 'a1', epoch: '9', sessions: [] })).rejects.toThrow(
      /adopt is not for this certificate; its common name must begin with relay:/,
    );
    expect(calls).toEqual([]);
  });

  it("lets an operator's node ask a relay to hand over, and no signalling node", async () => {
    answer = () => ({ epoch: '8', tookMs: 12 });
    const admin = client(leaves['admin:console']!);
    await expect(admin.handOver({ anchor: 'a1', to: 'r2' })).resolves.toEqual({ epoch: '8', tookMs: 12 });
    expect(calls).toEqual([['handOver', { anchor: 'a1', to: 'r2' }]]);
    await expect(client(leaves['signalling:s1']!).claim({ anchor: 'a1' })).rejects.toThrow(
      /claim is not for this certificate; its common name must begin with relay: or admin:/,
    );
    await expect(admin.adopt({ anchor: 'a1', epoch: '9', sessions: [] })).rejects.toThrow(/adopt is not for/);
  });

  it('serves nobody whose certificate names no role', async () => {
    await expect(
      client(leaves.printer!).rebind({ anchor: 'a1', datagram: '', address: '192.0.2.1', port: 1 }),
    ).rejects.toMatchObject({ code: 'ERR_MOORING_FORBIDDEN' });
    expect(calls).toEqual([]);
  });

  it('does not let in a certificate of another authority, or none', async () => {
    await expect(client(leaves.stranger!).prepare({ anchor: 'a1' })).rejects.toMatchObject({
      code: 'ERR_MOORING_RELAY_UNREACHABLE',
      temporary: true,
    });
    expect(calls).toEqual([]);
  });

  it('refuses parameters that are not in the schema, naming the field, before anything is done', async () => {
    const relay = client(leaves['relay:r2']!);
    await expect(relay.prepare({} as never)).rejects.toThrow(/anchor is missing; add it/);
    expect(calls).toEqual([]);
  });

  it('tells every connected node that a lease has ended', async () => {
    const heard = new Promise<LeaseEnded>((resolve) => {
      const node = client(leaves['signalling:s1']!, caFile, resolve);
      void node
        .apply({ anchor: 'a1', event: { type: 'owned', fence: '1-1', relay: 'r1' } })
        .then(() => server.announceEnded({ type: 'ended', lease, reason: 'expired' }));
    });
    await expect(heard).resolves.toEqual({ type: 'ended', lease, reason: 'expired' });
  });

  it('fails a call in flight with a temporary error when the connection is lost, and reconnects', async () => {
    const relay = client(leaves['relay:r2']!);
    answer = () => new Promise(() => {});
    const lost = relay.prepare({ anchor: 'a1' });
    while (calls.length === 0) await new Promise((resolve) => setImmediate(resolve));
    relay.close();
    await expect(lost).rejects.toMatchObject({ code: 'ERR_MOORING_RELAY_UNREACHABLE', temporary: true });
    answer = () => ({});
    await expect(relay.prepare({ anchor: 'a1' })).resolves.toEqual({});
  });
});

const lease: LeaseEnded['lease'] = {
  id: `a1.${'x'.repeat(22)}`,
  anchor: 'a1',
  pool: 'p',
  device: { tenant: 't', id: 'd' },
  bindId: 1,
  kind: 'rsa-ip',
  address: '198.51.100.21',
  ports: null,
  spis: null,
  session: 'ab'.repeat(16),
  state: 'active',
  remainingMs: 0,
  fence: '1-2',
};
