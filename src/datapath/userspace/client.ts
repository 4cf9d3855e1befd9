import { afterGracePeriod } from '../../linux/grace-period.ts';
import { startPacketWorker, workerModule } from '../../linux/packet-worker.ts';
import { MooringError } from '../../protocol/errors.ts';
import { DEFAULT_MARKING, type TunnelMarking } from '../../tunnel/dscp-ecn.ts';
import { INNER_MTU, TUNNEL_PORT } from '../../tunnel/wire.ts';
import type { EngineAnswer, EngineCommand, EngineEvent, EngineStatus } from '../engine-api.ts';
import type { XdpWish } from '../xdp/fast-engine.ts';
import {
  ENGINE_BEGIN,
  type EngineDescriptors,
  type EngineSettings,
  type FromEngine,
  type GraceOver,
  type PlainError,
} from './messages.ts';
import type { SessionPolicing } from './session.ts';

export interface UserspaceEngineOptions {
  /** Name of the TUN device, 1–15 octets; created, or attached to when it is there. */
  readonly tun: string;
  /** 64 random bits that name this process's incarnation; not 0. */
  readonly relayBoot: bigint;
  /** Inner MTU, octets (default 1,280). */
  readonly mtu?: number;
  /** UDP port on every local address (default 4556). */
  readonly port?: number;
  /** DSCP and ECN at the tunnel's ends (default: DEFAULT_MARKING). */
  readonly marking?: TunnelMarking;
  /** Rates of every session (default: unlimited). */
  readonly policing?: SessionPolicing;
  /** The TUN device, and the routes into it, outlive the process (default true). */
  readonly persist?: boolean;
  /** Open sockets of a former process, by name, to go on with. */
  readonly inherited?: EngineDescriptors;
  /** Leave what arrives in the sockets and the TUN device until `begin`, so that nothing is judged before it can be. */
  readonly waits?: boolean;
  /** XDP in front of this engine (default: none). */
  readonly xdp?: XdpWish;
}

/** The main thread's handle of the userspace engine. */
export interface EngineClient {
  /**
   * Carries out a command; commands are answered in order. Rejects with the engine's MooringError, or with
   * ERR_MOORING_ENGINE_ENDED (temporary) when the thread is gone.
   */
  command<C extends EngineCommand>(command: C): Promise<EngineAnswer<C>>;
  /** Calls `listener` for every event from now on. */
  onEvent(listener: (event: EngineEvent) => void): void;
  /** Calls `listener` once when the thread has ended: the error that ended it, or null after `close`. */
  onExit(listener: (error: Error | null) => void): void;
  /** What the engine has opened: a process that keeps these keeps what arrives meanwhile. */
  readonly descriptors: EngineDescriptors;
  /** What forwards. */
  readonly status: EngineStatus;
  /** Takes packets from now on; only after `waits`, and a second time does nothing. */
  begin(): void;
  /** Ends the thread; the sockets are closed when it resolves. Safe to call twice. */
  close(): Promise<void>;
}

interface Waiting {
  readonly resolve: (answer: EngineAnswer) => void;
  readonly reject: (error: Error) => void;
}

/** Starts the engine's thread. Resolves when TUN device and sockets are open; rejects with what prevented it. */
export async function startUserspaceEngine(options: UserspaceEngineOptions): Promise<EngineClient> {
  const settings: EngineSettings = {
    tun: options.tun,
    relayBoot: options.relayBoot,
    mtu: options.mtu ?? INNER_MTU,
    port: options.port ?? TUNNEL_PORT,
    marking: options.marking ?? DEFAULT_MARKING,
    policing: options.policing ?? { uplink: null, downlink: null },
    persist: options.persist ?? true,
    inherited: options.inherited ?? {},
    waits: options.waits ?? false,
    xdp: options.xdp ?? null,
  };
  const waiting = new Map<number, Waiting>();
  const onEvent: ((event: EngineEvent) => void)[] = [];
  const onExit: ((error: Error | null) => void)[] = [];
  let lastId = 0;
  let ended: { readonly error: Error | null } | null = null;
  type Ready = Extract<FromEngine, { type: 'ready' }>;
  let opened = (_ready: Ready): void => {};
  let failed = (_error: Error): void => {};
  const ready = new Promise<Ready>((resolve, reject) => {
    opened = resolve;
    failed = reject;
  });

  const take = (message: FromEngine): void => {
    switch (message.type) {
      case 'ready':
        opened(message);
        return;
      case 'not-started':
        failed(refusal(message.error));
        return;
      case 'grace':
        graceOver(() => worker.post({ graceOver: message.id } satisfies GraceOver));
        return;
      case 'event':
        for (const listener of onEvent) listener(message.event);
        return;
      case 'answers':
        for (const one of message.answers) {
          if ('error' in one) settle(one.id)?.reject(refusal(one.error));
          else settle(one.id)?.resolve(one.answer);
        }
        return;
      default:
        message satisfies never;
    }
  };

  const settle = (id: number): Waiting | undefined => {
    const request = waiting.get(id);
    waiting.delete(id);
    return request;
  };

  const end = (error: Error | null): void => {
    ended = { error };
    failed(error ?? gone(null));
    for (const request of waiting.values()) request.reject(gone(error));
    waiting.clear();
    for (const listener of onExit) listener(error);
  };

  const worker = startPacketWorker({
    url: workerModule('./worker', import.meta.url),
    settings,
    onMessage: (message) => take(message as FromEngine),
    onExit: end,
  });
  const { descriptors, status } = await ready;

  return {
    command<C extends EngineCommand>(command: C): Promise<EngineAnswer<C>> {
      if (ended !== null) return Promise.reject(gone(ended.error));
      lastId += 1;
      const id = lastId;
      return new Promise<EngineAnswer<C>>((resolve, reject) => {
        waiting.set(id, { resolve: resolve as (answer: EngineAnswer) => void, reject });
        worker.post({ id, command });
      });
    },
    onEvent: (listener) => void onEvent.push(listener),
    onExit(listener) {
      if (ended === null) onExit.push(listener);
      else listener(ended.error);
    },
    descriptors,
    status,
    begin: () => worker.post(ENGINE_BEGIN),
    close: () => worker.stop(),
  };
}

/** Where the kernel knows no membarrier, a packet is taken to be through after this time. */
const GRACE_INSTEAD_MS = 100;

function graceOver(then: () => void): void {
  afterGracePeriod((error) => {
    if (error === null) then();
    else setTimeout(then, GRACE_INSTEAD_MS);
  });
}

function refusal({ code, message, detail }: PlainError): MooringError {
  return new MooringError(code, message, detail);
}

function gone(cause: Error | null): MooringError {
  return new MooringError('ERR_MOORING_ENGINE_ENDED', 'the packet engine has ended; start it again', {
    temporary: true,
    cause,
  });
}
