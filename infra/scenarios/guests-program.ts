/**
 * Program: many devices in one process, each with its own key, token and signalling connection by the code that real devices
 * run (clients/sdk). They lease and keep their leases, and carry packets where the plan names an echo. Its argument is a `GuestsPlan`, in JSON; it
 * answers `GuestsCommand` on descriptor 3.
 */
import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { WebSocket } from 'ws';
import { StateDir } from '../../clients/laptop/state-dir.ts';
import { createTokenClient } from '../../clients/laptop/token.ts';
import { createDevice, type Device, type HeldLease } from '../../clients/sdk/device.ts';
import { generateDpopKey } from '../../clients/sdk/dpop.ts';
import type { WebSocketLike } from '../../clients/sdk/web-socket.ts';
import type { LeaseKind } from '../../src/protocol/lease.ts';
import { serve } from '../lab/control-channel.ts';
import { type GuestTunnel, openGuestTunnel } from './guest-tunnel.ts';
import type { End } from './talk-program.ts';

export interface GuestsPlan {
  readonly signallingUrl: string;
  readonly tokenEndpoint: string;
  readonly audience: string;
  readonly caFile: string;
  readonly pool: string;
  readonly kind: LeaseKind;
  readonly stateDir: string;
  /** Whom they all ask through their tunnels; default: they have none. */
  readonly echo?: End;
}

export interface Guest {
  readonly name: string;
  readonly keyFile: string;
}

export type GuestsCommand =
  /** Each fetches a token, connects and leases; `width` at a time. Answers `Arrived`. */
  | { readonly op: 'arrive'; readonly guests: readonly Guest[]; readonly width: number }
  /** Politely: the lease is given back. Otherwise the device is just gone. */
  | { readonly op: 'leave'; readonly names: readonly string[]; readonly politely: boolean }
  /** All ask the echo, and again until `withinMs` have passed or each is answered. Answers how many were. */
  | { readonly op: 'ask'; readonly withinMs: number }
  | { readonly op: 'report' };

export interface Share {
  readonly name: string;
  readonly lease: string;
  readonly address: string;
  readonly firstPort: number;
}

export interface Arrived {
  readonly shares: readonly Share[];
  /** Why the others have none. */
  readonly refused: readonly string[];
  readonly tookMs: number;
}

export interface GuestsReport {
  /** Of those who have not left. */
  readonly held: readonly Share[];
  /** Names whose lease ended without their asking. */
  readonly ended: readonly string[];
  readonly extensions: number;
}

const plan = JSON.parse(process.argv[2]!) as GuestsPlan;
const ca = readFileSync(plan.caFile, 'utf8');
// Nobody signs in here, so nothing is written there.
const state = new StateDir(plan.stateDir);
interface Present {
  readonly device: Device;
  readonly held: HeldLease;
  readonly tunnel: GuestTunnel | null;
}

const ASK_AGAIN_MS = 300;
const present = new Map<string, Present>();
const ended: string[] = [];
let extensions = 0;

async function arrive({ name, keyFile }: Guest): Promise<Share> {
  const { audience, tokenEndpoint, caFile, signallingUrl, pool, kind } = plan;
  const settings = {
    ...{ tokenEndpoint, audience, caFile, scope: 'lease' },
    ...{ clientId: name, privateKeyFile: keyFile },
  };
  const tokens = createTokenClient(settings, await generateDpopKey(), state);
  const device = await createDevice({
    url: signallingUrl,
    connect: (url, subprotocol) =>
      new WebSocket(url, subprotocol, { ca, perMessageDeflate: false }) as WebSocketLike,
    credentials: (fresh) => tokens.credentials(fresh),
    onEvent(event) {
      if (event.type === 'extended') extensions += 1;
      if (event.type === 'ended') ended.push(name);
    },
  });
  const held = await device
    .lease({ request: randomBytes(16).toString('hex'), pool, kind })
    .catch((error: Error) => {
      device.close();
      throw error;
    });
  const tunnel = plan.echo === undefined ? null : openGuestTunnel(held, plan.echo);
  present.set(name, { device, held, tunnel });
  return share(name, held);
}

function share(name: string, { lease }: HeldLease): Share {
  return { name, lease: lease.id, address: lease.address, firstPort: lease.ports!.first };
}

async function arriveAll(guests: readonly Guest[], width: number): Promise<Arrived> {
  const startedMs = performance.now();
  const shares: Share[] = [];
  const refused: string[] = [];
  const waiting = [...guests];
  const door = async () => {
    for (let guest = waiting.shift(); guest !== undefined; guest = waiting.shift()) {
      try {
        shares.push(await arrive(guest));
      } catch (error) {
        refused.push(`${guest.name}: ${error instanceof Error ? error.message : String(error)}`);
      }
    }
  };
  await Promise.all(Array.from({ length: width }, door));
  return { shares, refused, tookMs: performance.now() - startedMs };
}

async function leave(name: string, politely: boolean): Promise<void> {
  const { device, held, tunnel } = present.get(name)!;
  present.delete(name);
  tunnel?.close();
  if (politely) await held.free();
  device.close();
}

async function ask(withinMs: number): Promise<number> {
  const untilMs = performance.now() + withinMs;
  const tunnels = [...present.values()].flatMap(({ tunnel }) => tunnel ?? []);
  const unanswered = () => tunnels.filter(({ answers }) => answers === 0);
  while (unanswered().length > 0 && performance.now() < untilMs) {
    for (const tunnel of unanswered()) tunnel.ask();
    await delay(ASK_AGAIN_MS);
  }
  return tunnels.length - unanswered().length;
}

serve<GuestsCommand>(async (command) => {
  switch (command.op) {
    case 'arrive':
      return arriveAll(command.guests, command.width);
    case 'leave':
      await Promise.all(command.names.map((name) => leave(name, command.politely)));
      return null;
    case 'ask':
      return ask(command.withinMs);
    case 'report':
      return {
        held: [...present].map(([name, { held }]) => share(name, held)),
        ...{ ended, extensions },
      };
    default:
      return command satisfies never;
  }
});
