import { randomBytes } from 'node:crypto';
import { type PacketWorker, startPacketWorker, workerModule } from '../../src/linux/packet-worker.ts';
import { socketAddress } from '../../src/protocol/address.ts';
import type { Log } from '../../src/telemetry/log.ts';
import type { TunnelMarking } from '../../src/tunnel/dscp-ecn.ts';
import { newBoot } from '../../src/tunnel/keys.ts';
import type { HeldLease } from '../sdk/device.ts';
import { systemTimers } from '../sdk/timers.ts';
import { believedAddress, endpointFor, Mover } from './mover.ts';
import type { Nat64Prefix } from './nat64.ts';
import type { FromPacketWorker, PacketSettings, ToPacketWorker } from './packet-messages.ts';

type WorkerStatus = Extract<FromPacketWorker, { type: 'status' }>;

export interface TunnelRun {
  readonly mover: Mover;
  /** The packet worker's view; null while it starts. */
  status(): Promise<WorkerStatus | null>;
  stop(): Promise<void>;
}

export interface TunnelRunOptions {
  readonly held: HeldLease;
  readonly tun: string;
  readonly mtu: number;
  readonly marking: TunnelMarking;
  /** Globs in order of preference. */
  readonly interfaces: readonly string[];
  /** What leads to IPv4 from a network without it; null: nothing. */
  readonly translator: () => Nat64Prefix | null;
  readonly log: Log;
  readonly onChange: () => void;
}

const RESTART_AFTER_MS = 500;
const STATUS_TIMEOUT_MS = 2_000;

/**
 * Carries one lease: the packet worker, and the mover that tells it where to send. A worker that dies is
 * started again as a new incarnation; the relay learns that from its first message.
 */
export function runTunnel(options: TunnelRunOptions): TunnelRun {
  const { held, log } = options;
  const endpoints = held.tunnel.endpoints.map(({ address, port }) => socketAddress(address, port));
  let worker: PacketWorker | null = null;
  let stopping = false;
  let cancelRestart: () => void = () => {};
  let lastRequest = 0;
  const asked = new Map<number, (status: WorkerStatus) => void>();

  const mover = new Mover({
    order: options.interfaces,
    endpoints,
    translator: options.translator,
    post: (message: ToPacketWorker) => worker?.post(message),
    timers: systemTimers,
    wallMs: Date.now,
    log,
    onChange: options.onChange,
  });

  function start(): void {
    const settings: PacketSettings = {
      root: held.root,
      index: held.tunnel.index,
      boot: newBoot((octets) => randomBytes(octets)),
      addresses: [held.lease.address],
      tun: options.tun,
      mtu: options.mtu,
      marking: options.marking,
    };
    worker = startPacketWorker({
      url: workerModule('./packet-thread', import.meta.url),
      settings,
      onMessage: (message) => receive(message as FromPacketWorker),
      onExit(error) {
        worker = null;
        asked.clear();
        if (stopping || error === null) return;
        log.error({ error: error.message }, 'the packet worker failed: starting it again');
        cancelRestart = systemTimers.after(RESTART_AFTER_MS, start);
      },
    });
    mover.restarted();
  }

  function receive(message: FromPacketWorker): void {
    switch (message.type) {
      case 'ready':
        log.debug('packet worker ready');
        return;
      case 'event':
        mover.sessionEvent(message.event);
        return;
      case 'link-failed':
        mover.linkFailed(message.link, message.message);
        return;
      case 'signal':
        offer(message.link, message.datagram, message.localPort);
        return;
      case 'status':
        asked.get(message.request)?.(message);
        asked.delete(message.request);
        return;
      default:
        message satisfies never;
    }
  }

  /** Beside the BIND in band: behind a NAT it says "hold, I am coming". */
  function offer(linkId: string, datagram: Uint8Array, localPort: number): void {
    const link = mover.links.find(({ id }) => id === linkId);
    const endpoint = link === undefined ? null : endpointFor(link, endpoints, options.translator());
    if (link === undefined || endpoint === null) return;
    const believed = believedAddress(link, endpoint, localPort);
    if (believed === null) return;
    held.rebind(datagram, believed).catch((error: unknown) => {
      log.debug({ error: error instanceof Error ? error.message : String(error) }, 'rebind not signalled');
    });
  }

  start();

  return {
    mover,
    status() {
      const running = worker;
      if (running === null) return Promise.resolve(null);
      lastRequest += 1;
      const request = lastRequest;
      return new Promise((resolve) => {
        const cancel = systemTimers.after(STATUS_TIMEOUT_MS, () => {
          asked.delete(request);
          resolve(null);
        });
        asked.set(request, (status) => {
          cancel();
          resolve(status);
        });
        running.post({ op: 'status', request } satisfies ToPacketWorker);
      });
    },
    async stop() {
      stopping = true;
      cancelRestart();
      mover.close();
      await worker?.stop();
    },
  };
}
