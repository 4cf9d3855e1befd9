/**
 * The real parts on the lab's networks: Redis, token issuer, signalling node, relays, device agents. Each is its own
 * process, configured by files as an operator would write them, talking TLS of a throw-away authority.
 */
import { generateKeyPairSync, randomBytes } from 'node:crypto';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { CONTROL_SOCKET } from '../../clients/laptop/agent.ts';
import { askAgent } from '../../clients/laptop/control-socket.ts';
import type { AgentStatus } from '../../clients/laptop/status.ts';
import type { PoolSettings } from '../../src/config/schema.ts';
import type { LeaseKind } from '../../src/protocol/lease.ts';
import { createAuthority, type Leaf } from './certificates.ts';
import type { Lab, LabProcess, Namespace } from './lab.ts';
import { nodeCommand } from './node-command.ts';
import type { Device, PublicHost, PublicNetwork } from './topology.ts';

/** The program as `npm run build` leaves it: what an operator runs. */
export const MOORING = fileURLToPath(new URL('../../../dist/src/cli/main.js', distUrl()));
const ISSUER = fileURLToPath(new URL('../../../dist/infra/issuer/main.js', distUrl()));

/** This file's URL as if it stood in `dist/infra/lab/`, wherever it runs from. */
function distUrl(): string {
  return import.meta.url.includes('/dist/')
    ? import.meta.url
    : import.meta.url.replace('/infra/lab/', '/dist/infra/lab/');
}

export const CORE_ADDRESS = '198.51.100.2';
export const AUDIENCE = 'https://mooring.lab';
const REDIS_PORT = 6379;
const ISSUER_PORT = 9443;
const SIGNALLING_PORT = 8443;
const PLANE_PORT = 4557;

export interface FleetOptions {
  readonly pools: readonly PoolSettings[];
  /** Relay ids; each gets a host on the public segment, `198.51.100.11` and up. */
  readonly relays: readonly string[];
  /** Every device that may ask for a token: the label of its namespace. */
  readonly devices: readonly string[];
  readonly ownershipMs?: number;
  readonly logLevel?: string;
  /** One relay that is signalling node too and starts its own registry: all in one process. Default: no. */
  readonly allInOne?: boolean;
  /** Life of an access token, seconds; default 600. */
  readonly tokenTtlS?: number;
  /** The program that relays run (default: MOORING). */
  readonly relayProgram?: string;
  /** More of every relay's own settings, such as its engine. */
  readonly relaySettings?: Readonly<Record<string, unknown>>;
}

/** A server process as an operator starts it. */
export interface ServerHost {
  readonly id: string;
  readonly host: PublicHost;
  readonly configFile: string;
  /** Keys, sockets, the private registry. */
  readonly dataDir: string;
  readonly process: LabProcess;
  /** Ends it as `kill -9` does. */
  crash(): Promise<void>;
  /** Starts it again with the same configuration. Resolves when it serves. */
  restart(): Promise<void>;
}

export interface AgentOptions {
  readonly pool: string;
  readonly kind: LeaseKind;
  /** Interfaces in order of preference. */
  readonly interfaces: readonly string[];
  /** Hand the leased address to a host behind this interface. */
  readonly behind?: string;
  /** Prefixes that the device reaches from the leased address whatever its programs say. */
  readonly routes?: readonly string[];
  readonly leaseMs?: number;
  /** Nothing leaves the device but through the tunnel. */
  readonly killSwitch?: boolean;
  /** Where strongSwan's settings for the lease are written. */
  readonly charon?: { readonly file: string; readonly reload: readonly string[] };
}

export interface Agent {
  readonly device: Device;
  readonly configFile: string;
  readonly stateDir: string;
  readonly process: LabProcess;
  /** What `mooring status` shows. */
  status(): Promise<AgentStatus>;
  /** Resolves with the status when `accept` likes it; throws with the last one after `withinMs`. */
  until(accept: (status: AgentStatus) => boolean, what: string, withinMs?: number): Promise<AgentStatus>;
  /** Prefer this link from now on. */
  use(link: string): Promise<void>;
  crash(): Promise<void>;
  restart(): Promise<void>;
}

export interface Fleet {
  readonly core: PublicHost;
  readonly relays: ReadonlyMap<string, ServerHost>;
  /** The signalling node; the relay itself when all is in one process. */
  readonly signalling: ServerHost;
  /** The token issuer. */
  readonly issuer: LabProcess;
  /** Configuration for another client of the same door. */
  readonly signallingUrl: string;
  readonly tokenEndpoint: string;
  readonly authorityFile: string;
  /** Private key file of a device's token client. */
  clientKeyFile(device: string): string;
  agent(device: Device, options: AgentOptions): Promise<Agent>;
  /** `mooring anchor handover`; resolves with its answer. */
  moveAnchor(anchor: string, from: string, to: string): Promise<{ epoch: string; tookMs: number }>;
  /** `mooring …` in a namespace, to its end. */
  mooring(namespace: Namespace, ...args: string[]): Promise<string>;
}

export async function startFleet(lab: Lab, net: PublicNetwork, options: FleetOptions): Promise<Fleet> {
  const logLevel = options.logLevel ?? 'info';
  const core = await net.host('core', { address: CORE_ADDRESS });
  const authority = await createAuthority(lab);
  const [issuerLeaf, signallingLeaf, signallingPlane] = await Promise.all([
    authority.issue('issuer', [CORE_ADDRESS]),
    authority.issue('signalling', [CORE_ADDRESS, relayAddress(0)]),
    authority.issue('signalling:core', [CORE_ADDRESS]),
  ]);
  // Beside the relays: to start is mostly to load modules, and they need no issuer for that.
  const issuerStart = startIssuer(lab, core, issuerLeaf, options);
  const masterKeyFile = lab.file('site.key');
  writeFileSync(masterKeyFile, randomBytes(32).toString('hex'), { mode: 0o600 });
  const allInOne = options.allInOne ?? false;
  if (!allInOne) await startRedis(lab, core);

  const common = (name: string) => ({
    dataDir: directory(lab, name),
    ...(allInOne ? {} : { redisUrl: `redis://${CORE_ADDRESS}:${REDIS_PORT}` }),
    logLevel,
    pools: options.pools,
  });
  const urlOf = (address: string) => `wss://${address}:${SIGNALLING_PORT}/mooring`;
  const door = async (address: string) => {
    const { url, jwksUri } = await issuerStart;
    return {
      listen: { host: address, port: SIGNALLING_PORT },
      url: urlOf(address),
      tls: { certFile: signallingLeaf.certFile, keyFile: signallingLeaf.keyFile },
      issuers: [{ issuer: url, audience: AUDIENCE, jwksUri, caFile: authority.certFile }],
    };
  };
  const startRelays = () =>
    options.relays.map(async (id, i): Promise<[string, ServerHost]> => {
      const address = relayAddress(i);
      const host = await net.host(id, { address, forwarding: true });
      const tls = await authority.issue(`relay:${id}`, [address]);
      const configuration = {
        ...common(id),
        relay: {
          id,
          interface: host.interface,
          masterKeyFile,
          ...options.relaySettings,
          ...(options.ownershipMs === undefined ? {} : { ownershipMs: options.ownershipMs }),
          plane: {
            listen: { host: address, port: PLANE_PORT },
            url: `wss://${address}:${PLANE_PORT}`,
            tls: files(tls, authority.certFile),
          },
        },
        ...(allInOne ? { signalling: await door(address) } : {}),
      };
      return [id, await startServer(lab, id, host, configuration, options.relayProgram)];
    });
  const startSignalling = async () =>
    startServer(lab, 'signalling', core, {
      ...common('signalling'),
      signalling: {
        ...(await door(CORE_ADDRESS)),
        planeTls: files(signallingPlane, authority.certFile),
      },
    });
  const [issuer, node, ...started] = await Promise.all([
    issuerStart,
    allInOne ? null : startSignalling(),
    ...startRelays(),
  ]);
  const relays = new Map(started);
  const signalling = node ?? relays.get(options.relays[0]!)!;
  const signallingUrl = urlOf(signalling.host.address);

  const mooring = async (namespace: Namespace, ...args: string[]) =>
    (await lab.run(namespace, nodeCommand(MOORING, ...args))).stdout;
  const clientKeyFile = (device: string) => lab.file(`${device}.client.json`);

  return {
    core,
    relays,
    signalling,
    issuer: issuer.process,
    signallingUrl,
    tokenEndpoint: issuer.tokenEndpoint,
    authorityFile: authority.certFile,
    clientKeyFile,
    mooring,
    async moveAnchor(anchor, from, to) {
      const relay = relays.get(from);
      if (relay === undefined) throw new Error(`there is no relay ${from} in this fleet`);
      const { host, configFile } = relay;
      return JSON.parse(
        await mooring(
          host.namespace,
          'anchor',
          'handover',
          anchor,
          '--to',
          to,
          '--config',
          configFile,
          '--json',
        ),
      );
    },
    agent: (device, agentOptions) =>
      startAgent(lab, device, {
        stateDir: directory(lab, `${device.label}-agent`),
        signalling: { url: signallingUrl, caFile: authority.certFile },
        issuer: {
          tokenEndpoint: issuer.tokenEndpoint,
          issuer: issuer.url,
          clientId: device.label,
          privateKeyFile: clientKeyFile(device.label),
          audience: AUDIENCE,
          caFile: authority.certFile,
        },
        logLevel,
        ...agentOptions,
      }),
  };
}

function relayAddress(i: number): string {
  return `198.51.100.${11 + i}`;
}

async function startRedis(lab: Lab, core: PublicHost): Promise<void> {
  const redis = await lab.spawn(core.namespace, [
    'redis-server',
    ...['--bind', CORE_ADDRESS, '--port', String(REDIS_PORT), '--protected-mode', 'no', '--save', ''],
    ...['--appendonly', 'yes', '--dir', lab.directory, '--maxmemory-policy', 'noeviction'],
  ]);
  await waitForLine(redis, 'Ready to accept connections');
}

async function startIssuer(
  lab: Lab,
  core: PublicHost,
  leaf: Leaf,
  options: Pick<FleetOptions, 'devices' | 'tokenTtlS'>,
) {
  const devices = options.devices.map((clientId) => {
    const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    const key = JSON.stringify(privateKey.export({ format: 'jwk' }));
    writeFileSync(lab.file(`${clientId}.client.json`), key, { mode: 0o600 });
    return { clientId, tenant: 'lab', publicJwk: publicKey.export({ format: 'jwk' }) };
  });
  const devicesFile = lab.file('issuer-devices.json');
  writeFileSync(devicesFile, JSON.stringify(devices));
  const issuer = await lab.spawn(
    core.namespace,
    nodeCommand(
      ISSUER,
      ...['--host', CORE_ADDRESS, '--port', String(ISSUER_PORT), '--audience', AUDIENCE],
      ...['--devices', devicesFile, '--tls-key', leaf.keyFile, '--tls-cert', leaf.certFile],
      ...['--token-ttl', String(options.tokenTtlS ?? 600)],
    ),
    { label: 'issuer' },
  );
  const line = await waitForLine(issuer, '"tokenEndpoint"');
  const urls = JSON.parse(line) as { url: string; jwksUri: string; tokenEndpoint: string };
  return { ...urls, process: issuer };
}

async function startServer(
  lab: Lab,
  id: string,
  host: PublicHost,
  configuration: { readonly dataDir: string } & Readonly<Record<string, unknown>>,
  program = MOORING,
): Promise<ServerHost> {
  const configFile = writeConfig(lab, id, configuration);
  const start = async () => {
    const started = await lab.spawn(host.namespace, nodeCommand(program, 'serve', '--config', configFile), {
      label: id,
    });
    await waitForLine(started, 'mooring is up');
    return started;
  };
  let process = await start();
  return {
    id,
    host,
    configFile,
    dataDir: configuration.dataDir,
    get process() {
      return process;
    },
    async crash() {
      process.kill('SIGKILL');
      await process.ended;
    },
    async restart() {
      process = await start();
    },
  };
}

async function startAgent(
  lab: Lab,
  device: Device,
  config: { readonly stateDir: string } & Readonly<Record<string, unknown>>,
): Promise<Agent> {
  const configFile = writeConfig(lab, `${device.label}-agent`, config);
  const start = () =>
    lab.spawn(device.namespace, nodeCommand(MOORING, 'up', '--config', configFile), {
      label: `agent ${device.label}`,
    });
  let process = await start();
  // A unix socket is reached from every network namespace.
  const socket = join(config.stateDir, CONTROL_SOCKET);
  const status = async () => (await askAgent(socket, { command: 'status' })) as AgentStatus;
  return {
    device,
    configFile,
    stateDir: config.stateDir,
    get process() {
      return process;
    },
    status,
    async until(accept, what, withinMs = 15_000) {
      const deadline = Date.now() + withinMs;
      let last: unknown;
      while (Date.now() < deadline) {
        try {
          const seen = await status();
          if (accept(seen)) return seen;
          last = seen;
        } catch (error) {
          last = error;
        }
        await delay(50);
      }
      const tail = process.output().trimEnd().split('\n').slice(-8).join('\n');
      throw new Error(
        `${device.label}: not ${what} within ${withinMs} ms; last: ${last instanceof Error ? last.message : JSON.stringify(last)}\n${tail}`,
      );
    },
    async use(link) {
      await askAgent(socket, { command: 'use', link });
    },
    async crash() {
      process.kill('SIGKILL');
      await process.ended;
    },
    async restart() {
      process = await start();
    },
  };
}

/** The first line of a process's output that contains `text`; throws when it ends or a minute passes before. */
async function waitForLine(process: LabProcess, text: string): Promise<string> {
  const deadline = Date.now() + 60_000;
  for (;;) {
    const found = process
      .output()
      .split('\n')
      .find((line) => line.includes(text));
    if (found !== undefined) return found;
    if (!process.running || Date.now() > deadline) {
      const tail = process.output().trimEnd().split('\n').slice(-12).join('\n');
      throw new Error(`${process.label} did not say ${JSON.stringify(text)}:\n${tail}`);
    }
    await delay(20);
  }
}

function directory(lab: Lab, name: string): string {
  const path = lab.file(`data-${name}`);
  mkdirSync(path, { recursive: true, mode: 0o700 });
  return path;
}

/** JSON is YAML: the program reads either. */
function writeConfig(lab: Lab, name: string, config: object): string {
  const path = lab.file(`${name}.yaml`);
  writeFileSync(path, JSON.stringify(config, null, 2), { mode: 0o600 });
  return path;
}

function files(leaf: Leaf, caFile: string) {
  return { certFile: leaf.certFile, keyFile: leaf.keyFile, caFile };
}
