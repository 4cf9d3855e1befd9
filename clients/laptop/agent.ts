import WebSocket from 'ws';
import { markingOf } from '../../src/config/marking.ts';
import { bootTimeNs } from '../../src/linux/boot-time.ts';
import { MooringError } from '../../src/protocol/errors.ts';
import type { EndReason } from '../../src/protocol/lease.ts';
import type { Log } from '../../src/telemetry/log.ts';
import { createDevice, type Device, type DeviceEvent, type HeldLease } from '../sdk/device.ts';
import { systemTimers } from '../sdk/timers.ts';
import type { WebSocketLike } from '../sdk/web-socket.ts';
import { controlUrls, type LaptopConfig } from './config.ts';
import { ControlHosts } from './control-hosts.ts';
import { type ControlRequest, serveControl } from './control-socket.ts';
import { watchLeaseFiles } from './lease-files.ts';
import { type AccessLink, matchesGlob } from './link-choice.ts';
import { watchAccessLinks } from './link-watch.ts';
import { MachineChanges } from './machine-changes.ts';
import { prefixText, synthesised } from './nat64.ts';
import { obtainLease } from './obtain-lease.ts';
import { whyUnreached } from './remarks.ts';
import { watchSleep } from './sleep-watch.ts';
import { deviceKey, StateDir, writeHeldLease } from './state-dir.ts';
import { type AgentStatus, type Move, statusOf } from './status.ts';
import { createTokenClient } from './token.ts';
import { readAuthority } from './token-endpoint.ts';
import { TranslatorWatch } from './translator-watch.ts';
import { runTunnel, type TunnelRun } from './tunnel-run.ts';

export const CONTROL_SOCKET = 'agent.sock';

export interface AgentOptions {
  readonly log: Log;
}

export interface Agent {
  /** Resolves when packets flow for the first time; rejects when the agent ends before. */
  readonly ready: Promise<void>;
  /** Resolves when the agent has stopped and the machine is as it was; rejects with why it gave up. */
  readonly done: Promise<void>;
  status(): Promise<AgentStatus>;
  /** Prefers a link from now on; null: chooses by the configuration again. Resolves when the relay sends there. */
  use(link: string | null): Promise<Move | null>;
  /** Takes all changes to the machine back. The lease stays, to be resumed, unless `free`. */
  stop(options?: { readonly free?: boolean }): Promise<void>;
}

/**
 * Runs the device's agent: leases, carries the lease's packets, moves when the network under it changes.
 * Resolves when it has begun. Throws ERR_MOORING_CONFIG, ERR_MOORING_STATE, ERR_MOORING_ALREADY_RUNNING.
 */
export async function runAgent(config: LaptopConfig, options: AgentOptions): Promise<Agent> {
  const agent = new RunningAgent(config, options);
  await agent.begin();
  return agent;
}

/** Takes back what an agent that is gone has changed on this machine. */
export function restoreMachine(config: LaptopConfig): number {
  const changes = new MachineChanges(config, new StateDir(config.stateDir));
  const { count } = changes;
  changes.end(true);
  return count;
}

class RunningAgent implements Agent {
  readonly ready: Promise<void>;
  readonly done: Promise<void>;
  readonly #config: LaptopConfig;
  readonly #log: Log;
  readonly #state: StateDir;
  readonly #changes: MachineChanges;
  readonly #hosts: ControlHosts;
  readonly #translator: TranslatorWatch;
  #device: Device | null = null;
  #held: HeldLease | null = null;
  #mtu = 0;
  #run: TunnelRun | null = null;
  #links: readonly AccessLink[] = [];
  #stopWatching: () => void = () => {};
  #stopSleepWatch: () => void = () => {};
  #control: { close(): Promise<void> } | null = null;
  #lastError: string | null = null;
  #stopping: Promise<void> | null = null;
  #isReady!: () => void;
  #isDone!: () => void;
  #hasFailed!: (error: unknown) => void;

  constructor(config: LaptopConfig, options: AgentOptions) {
    this.#config = config;
    this.#log = options.log;
    this.#state = new StateDir(config.stateDir);
    this.#changes = new MachineChanges(config, this.#state);
    this.#hosts = new ControlHosts({
      urls: controlUrls(config),
      state: this.#state,
      onChange: () => this.#adapt(() => this.#changes.controlAt(this.#hosts)),
      elsewhere: (address) => this.#translated(address),
    });
    this.#translator = new TranslatorWatch({ onChange: () => this.#translatorChanged() });
    this.done = new Promise((resolve, reject) => {
      this.#isDone = resolve;
      this.#hasFailed = reject;
    });
    this.ready = new Promise((resolve, reject) => {
      this.#isReady = resolve;
      this.done.then(
        () => reject(new MooringError('ERR_MOORING_CLOSED', 'the agent was stopped before packets flowed')),
        reject,
      );
    });
    // Whoever does not ask for these promises is told by status and log.
    this.ready.catch(() => {});
    this.done.catch(() => {});
  }

  async begin(): Promise<void> {
    const { signalling, issuer, stateDir } = this.#config;
    this.#control = await serveControl(this.#state.file(CONTROL_SOCKET), (request) => this.#obey(request));
    try {
      const key = await deviceKey(this.#state);
      const tokens = createTokenClient(issuer, key, this.#state, this.#hosts);
      const ca = readAuthority(signalling.caFile, 'signalling.caFile');
      // Last of what a wrong configuration could end: shut is shut, also for whoever is to mend it.
      await this.#prepare();
      this.#device = await createDevice({
        url: signalling.url,
        connect: (url, subprotocol) => {
          const socket = new WebSocket(url, subprotocol, {
            ...(ca === undefined ? {} : { ca }),
            perMessageDeflate: false,
            maxPayload: 65_536,
            handshakeTimeout: 8_000,
            lookup: this.#hosts.lookup,
          });
          socket.once('upgrade', (answer) => this.#hosts.proven(url, answer.socket.remoteAddress));
          return socket as WebSocketLike;
        },
        credentials: (fresh) => tokens.credentials(fresh),
        onEvent: (event) => this.#deviceEvent(event),
      });
      this.#log.info({ device: key.thumbprint, stateDir }, 'agent started');
      this.#stopWatching = watchAccessLinks({
        isAccess: (name) =>
          name !== this.#config.tun &&
          name !== this.#config.behind &&
          this.#config.interfaces.some((glob) => matchesGlob(glob, name)),
        needsDefaultRoute: this.#config.interfaces.every((glob) => glob === '*'),
        onChange: (links) => this.#linksChanged(links),
        log: this.#log,
      });
      this.#stopSleepWatch = watchSleep({
        timers: systemTimers,
        bootTimeMs: () => Number(bootTimeNs() / 1_000_000n),
        onWake: (sleptMs) => this.#woke(sleptMs),
      });
    } catch (error) {
      this.#device?.close();
      await this.#control.close();
      throw error;
    }
    void this.#carry();
  }

  /** Lease, then carry it; an end of the lease begins it again. */
  async #carry(): Promise<void> {
    try {
      const device = this.#device!;
      const held = await obtainLease(device, this.#config, this.#state, this.#log);
      if (this.#stopping !== null) return;
      const { lease, tunnel } = held;
      this.#held = held;
      this.#mtu = Math.min(this.#config.mtu ?? tunnel.mtu, tunnel.mtu);
      this.#log.info(
        {
          lease: lease.id,
          address: lease.address,
          ports: lease.ports,
          spis: lease.spis,
          ikeSpis: lease.ikeSpis ?? null,
        },
        'lease held',
      );
      await this.#settle(held);
      if (this.#stopping !== null) return;
      this.#run = runTunnel({
        held,
        tun: this.#config.tun,
        mtu: this.#mtu,
        marking: markingOf(this.#config),
        interfaces: this.#config.interfaces,
        translator: () => this.#translator.prefix,
        log: this.#log,
        onChange: () => this.#changed(),
      });
      this.#run.mover.update(this.#links);
    } catch (error) {
      await this.#giveUp(error);
    }
  }

  /** Brings the machine to the lease, and tells other programs when their settings are others now. */
  async #settle(held: HeldLease): Promise<void> {
    const reload = watchLeaseFiles(this.#config);
    this.#settleMachine(held);
    for (const fault of await reload())
      this.#log.warn({ error: fault }, 'a program was not told of the lease');
  }

  #settleMachine({ lease, tunnel }: HeldLease): void {
    const translated = tunnel.endpoints.flatMap(({ address, port }) =>
      this.#translated(address).map((other) => ({ address: other, port })),
    );
    this.#changes.settle({ lease, mtu: this.#mtu, endpoints: [...tunnel.endpoints, ...translated] });
  }

  /** Something around us changed; that the machine does not follow is no reason to give up what works. */
  #adapt(change: () => void): void {
    try {
      change();
    } catch (error) {
      this.#log.error(describe(error), 'the machine was not adapted');
    }
  }

  #translated(address: string): readonly string[] {
    const { prefix } = this.#translator;
    return prefix === null || address.includes(':') ? [] : [synthesised(prefix, address)];
  }

  /** What leads to IPv4 changed: the machine lets it pass, the tunnel goes that way, and signalling tries again. */
  #translatorChanged(): void {
    this.#log.info({ prefix: prefixText(this.#translator.prefix) || null }, 'translator to IPv4');
    if (this.#stopping !== null) return;
    this.#adapt(() => {
      if (this.#held === null) this.#changes.controlAt(this.#hosts);
      else this.#settleMachine(this.#held);
    });
    this.#run?.mover.update(this.#links);
    this.#device?.networkChanged();
  }

  /** The kill switch stands before anything is asked of a network; of the relay nothing is known yet, or still. */
  async #prepare(): Promise<void> {
    if (this.#config.killSwitch && !this.#hosts.complete) {
      await this.#hosts.refresh();
      if (!this.#hosts.complete) {
        this.#log.warn(
          'the kill switch is not closed yet: the names of signalling or issuer are not resolved here',
        );
      }
    }
    this.#changes.begin(this.#hosts);
  }

  #linksChanged(links: readonly AccessLink[]): void {
    this.#links = links;
    this.#log.debug({ links: links.map(({ id }) => id) }, 'access links');
    this.#translator.linksAre(links);
    this.#run?.mover.update(links);
    this.#device?.networkChanged();
  }

  #woke(sleptMs: number): void {
    this.#log.info({ sleptMs: Math.round(sleptMs) }, 'awake again');
    this.#run?.mover.woke();
    this.#device?.woke(sleptMs);
  }

  #deviceEvent(event: DeviceEvent): void {
    switch (event.type) {
      case 'connected':
        this.#lastError = null;
        this.#log.info('signalling connected');
        break;
      case 'disconnected':
        this.#lastError = whyUnreached(event.error.message);
        this.#log.warn(
          { error: this.#lastError, code: event.error.code, retryInMs: Math.round(event.retryInMs) },
          'signalling lost',
        );
        break;
      case 'refused':
        this.#lastError = event.error.message;
        this.#log.error(describe(event.error), 'signalling refuses this device');
        // The session key is the authority to rebind: what is leased goes on until the lease ends.
        if (this.#run === null) void this.#giveUp(event.error);
        break;
      case 'extended':
        this.#log.debug({ lease: event.lease.id, remainingMs: event.lease.remainingMs }, 'lease extended');
        break;
      case 'extension-failed':
        this.#lastError = event.error.message;
        this.#log.warn({ lease: event.lease.id, ...describe(event.error) }, 'lease not extended');
        break;
      case 'ended':
        if (event.lease === this.#held?.lease.id) void this.#leaseEnded(event.reason);
        break;
      default:
        event satisfies never;
    }
    this.#changed();
  }

  async #leaseEnded(reason: EndReason): Promise<void> {
    this.#log.warn({ lease: this.#held?.lease.id, reason }, 'the lease has ended: asking for a new one');
    const run = this.#run;
    this.#run = null;
    this.#held = null;
    writeHeldLease(this.#state, null);
    await run?.stop();
    if (this.#stopping !== null) return;
    this.#changes.leaseEnded();
    await this.#carry();
  }

  #changed(): void {
    if (this.#run?.mover.state === 'bound') this.#isReady();
  }

  async #giveUp(error: unknown): Promise<void> {
    if (this.#stopping !== null) return;
    this.#log.error(describe(error), 'giving up');
    await this.stop({}, error);
  }

  use(link: string | null): Promise<Move | null> {
    if (this.#run === null) {
      return Promise.reject(
        new MooringError('ERR_MOORING_NO_LEASE', 'there is no lease to move yet; see `status`', {
          temporary: true,
        }),
      );
    }
    return this.#run.mover.use(link);
  }

  async #obey(request: ControlRequest): Promise<unknown> {
    switch (request.command) {
      case 'status':
        return this.status();
      case 'use':
        return this.use(request.link);
      case 'down':
        // Answered when everything is back; the socket closes behind the answer.
        await this.#down(request.free, true).finally(() => setImmediate(() => void this.stop()));
        return {};
      default:
        return request satisfies never;
    }
  }

  async status(): Promise<AgentStatus> {
    const worker = (await this.#run?.status()) ?? null;
    return statusOf({
      isStopped: this.#stopping !== null,
      held: this.#held,
      interface: this.#config.tun,
      mtu: this.#mtu,
      worker,
      mover: this.#run?.mover ?? null,
      links: this.#links,
      translator: this.#translator,
      killSwitch: this.#changes.isShut,
      signalling: { connected: this.#device?.connected ?? false, lastError: this.#lastError },
    });
  }

  async stop(options: { readonly free?: boolean } = {}, because?: unknown): Promise<void> {
    let fault = because;
    try {
      await this.#down(options.free ?? false, false);
    } catch (error) {
      this.#log.error(describe(error), 'the machine is not quite as it was');
      fault ??= error;
    }
    await this.#control?.close();
    if (fault === undefined) this.#isDone();
    else this.#hasFailed(fault);
  }

  /** Everything but the control socket; the kill switch only when it is `opened`. Throws ERR_MOORING_RESTORE. */
  #down(free: boolean, opened: boolean): Promise<void> {
    this.#stopping ??= this.#takeDown(free, opened);
    return this.#stopping;
  }

  async #takeDown(free: boolean, opened: boolean): Promise<void> {
    this.#stopWatching();
    this.#stopSleepWatch();
    if (free && this.#held !== null) {
      await this.#held.free().then(
        () => writeHeldLease(this.#state, null),
        (error: unknown) =>
          this.#log.warn(describe(error), 'the lease was not given back; it ends by itself'),
      );
    }
    this.#device?.close();
    await this.#run?.stop();
    this.#changes.end(opened);
    this.#log.info(
      this.#changes.count === 0
        ? 'stopped; the machine is as it was'
        : 'stopped; the kill switch stays: `mooring restore` takes it back',
    );
  }
}

/** What a log line or a terminal needs of an error; never a secret. */
function describe(error: unknown): Record<string, unknown> {
  if (!(error instanceof MooringError)) {
    return { error: error instanceof Error ? error.message : String(error) };
  }
  return { error: error.message, code: error.code, rsip: error.rsip, name: error.data.name };
}
