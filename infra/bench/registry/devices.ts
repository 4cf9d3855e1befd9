/**
 * Many devices at the door, one process: each has a key, a token and a WebSocket of its own. It is their token issuer as
 * well. Told what to do over descriptor 3; started with the door's URL, the issuer's port and the pool.
 */
import { randomBytes } from 'node:crypto';
import { createServer } from 'node:http';
import { setTimeout as delay } from 'node:timers/promises';
import { WebSocket } from 'ws';
import type { AnyServerFrame } from '../../../clients/sdk/frames.ts';
import { type RequestName, type ResultOf, SUBPROTOCOL } from '../../../src/protocol/signalling.ts';
import { serve } from '../../lab/control-channel.ts';
import { createIssuer, type Identity, SEALING_KEY } from './device-keys.ts';
import { closedLoop, openLoop, sleeping, type Taken } from './load.ts';

/** At full speed with `width` under way, or steadily. */
export type Pace = { readonly width: number } | { readonly perSecond: number };

export type DevicesCommand =
  /** Waits until the door is open. */
  | { readonly op: 'wait' }
  /** New devices connect and say hello. */
  | { readonly op: 'arrive'; readonly count: number; readonly width: number }
  /** Devices that have arrived ask for their first lease. */
  | { readonly op: 'lease'; readonly count: number; readonly pace: Pace }
  /** Devices that hold a lease extend it, in turn. */
  | { readonly op: 'extend'; readonly count: number; readonly pace: Pace }
  /** All but so many of those that hold a lease hang up. */
  | { readonly op: 'dismiss'; readonly keep: number };

const OPEN_WITHIN_MS = 15_000;

const [url = '', issuerPort = '', pool = ''] = process.argv.slice(2);
const issuerUrl = `http://127.0.0.1:${issuerPort}`;
const issuer = createIssuer(issuerUrl);
createServer((_request, response) => response.setHeader('content-type', 'application/json').end(issuer.jwks))
  .listen(Number(issuerPort), '127.0.0.1')
  .unref();

interface Device {
  request(type: RequestName, params: object): Promise<unknown>;
  hangUp(): void;
}

function call(identity: Identity): Promise<Device> {
  return new Promise((resolve, reject) => {
    const socket = new WebSocket(url, SUBPROTOCOL, { perMessageDeflate: false });
    const waiting = new Map<number, { resolve(value: unknown): void; reject(error: Error): void }>();
    let nextId = 1;
    const device: Device = {
      request(type, params) {
        const id = nextId;
        nextId += 1;
        socket.send(JSON.stringify({ type, id, ...params }));
        return new Promise((done, failed) => waiting.set(id, { resolve: done, reject: failed }));
      },
      hangUp: () => socket.close(),
    };
    const end = (why: string) => {
      const error = new Error(`${identity.id}: ${why}`);
      reject(error);
      for (const one of waiting.values()) one.reject(error);
      waiting.clear();
    };
    // Believed as it is: to check it costs more than to send it, and the server is what is measured.
    const receive = (frame: AnyServerFrame): void => {
      if (frame.type === 'welcome') {
        const { token } = identity;
        const proof = identity.proof(frame.nonce, frame.url);
        device
          .request('hello', { token, proof, sealingKey: SEALING_KEY })
          .then(() => resolve(device), reject);
        return;
      }
      if (frame.type !== 'result' && frame.type !== 'error') {
        end(`was told ${frame.type}`);
        return;
      }
      const asked = waiting.get(frame.id ?? 0);
      waiting.delete(frame.id ?? 0);
      if (frame.type === 'result') asked?.resolve(frame.result);
      else if (asked === undefined) end(frame.error.message);
      else asked.reject(new Error(`${identity.id}: ${frame.error.message}`));
    };
    socket.on('message', (data) => receive(JSON.parse(String(data)) as AnyServerFrame));
    socket.on('error', (error) => end(error.message));
    socket.on('close', (code, reason) => end(`hung up on with ${code} ${reason}`));
  });
}

/** Have said hello and hold nothing yet. */
const arrived: Device[] = [];
const holding: { readonly device: Device; readonly lease: string }[] = [];
const leased = new Set<string>();
let born = 0;

async function arrive(count: number, width: number): Promise<Taken> {
  const identities = Array.from({ length: count }, () => {
    born += 1;
    return issuer.identity(`device-${born}`);
  });
  return closedLoop(width, { count }, async (n) => void arrived.push(await call(identities[n]!)));
}

async function lease(): Promise<void> {
  const device = arrived.shift();
  if (device === undefined) throw new Error('no device is left that holds nothing');
  const request = randomBytes(16).toString('hex');
  const granted = await device.request('lease', { request, pool, kind: 'rsa-ip' });
  const { lease: held } = granted as ResultOf<'lease'>;
  if (leased.has(held.address)) throw new Error(`${held.address} was granted twice`);
  leased.add(held.address);
  holding.push({ device, lease: held.id });
}

async function extend(n: number): Promise<void> {
  const { device, lease: held } = holding[n % holding.length]!;
  await device.request('extend', { lease: held });
}

function paced(pace: Pace, count: number, operate: (n: number) => Promise<void>): Promise<Taken> {
  if ('width' in pace) return closedLoop(pace.width, { count }, operate);
  return openLoop(pace.perSecond, count, sleeping, operate);
}

async function wait(): Promise<void> {
  const health = new URL('/healthz', url.replace(/^ws/, 'http'));
  const deadline = Date.now() + OPEN_WITHIN_MS;
  for (;;) {
    const answer = await fetch(health).catch((error: Error) => error);
    if (answer instanceof Response && answer.ok) return;
    if (Date.now() > deadline) throw new Error(`no door at ${url}`, { cause: answer });
    await delay(50);
  }
}

serve(async (command: DevicesCommand) => {
  switch (command.op) {
    case 'wait':
      return wait();
    case 'arrive':
      return arrive(command.count, command.width);
    case 'lease':
      return paced(command.pace, command.count, lease);
    case 'extend':
      return paced(command.pace, command.count, extend);
    case 'dismiss':
      for (const { device } of holding.splice(command.keep)) device.hangUp();
      return;
    default:
      command satisfies never;
  }
});
