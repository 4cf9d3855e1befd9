import type { Registry, RelayAnnouncement } from '../../../src/registry/registry.ts';
import type { Network } from './network.ts';
import type { Product } from './product.ts';
import type { Process, Scheduler } from './scheduler.ts';

const TIMEOUT_MS = 1_000;

/** Which relays there are. It is only a hint, so it does not go through Redis here, but as far. */
export class Announcements {
  private readonly announced = new Map<string, { announcement: RelayAnnouncement; untilMs: number }>();
  private readonly scheduler: Scheduler;
  private readonly network: Network;
  private readonly product: Product;
  private readonly server: string;

  /** @param server where they are kept */
  constructor(scheduler: Scheduler, network: Network, product: Product, server: string) {
    this.scheduler = scheduler;
    this.network = network;
    this.product = product;
    this.server = server;
  }

  /** As a process reads and writes them. */
  of(process: Process): Pick<Registry, 'announceRelay' | 'relay' | 'relays'> {
    return {
      announceRelay: (announcement, ttlMs) =>
        this.ask(process, () => {
          this.announced.set(announcement.id, { announcement, untilMs: this.scheduler.nowMs + ttlMs });
        }),
      relay: (id) => this.ask(process, () => this.living().find((one) => one.id === id) ?? null),
      relays: () => this.ask(process, () => this.living()),
    };
  }

  private living(): readonly RelayAnnouncement[] {
    return [...this.announced.values()]
      .filter(({ untilMs }) => untilMs > this.scheduler.nowMs)
      .map(({ announcement }) => announcement);
  }

  private ask<T>(process: Process, read: () => T): Promise<T> {
    const { network, product, server } = this;
    return new Promise((resolve, reject) => {
      const cancel = process.after(TIMEOUT_MS, () =>
        reject(
          new product.MooringError('ERR_MOORING_REGISTRY_UNAVAILABLE', 'no answer', { temporary: true }),
        ),
      );
      network.send(process.host.id, server, () => {
        const value = read();
        network.send(
          server,
          process.host.id,
          process.guarded(() => {
            cancel();
            resolve(value);
          }),
        );
      });
    });
  }
}
