import type { Settings } from '../config/schema.ts';
import { MooringError } from '../protocol/errors.ts';
import type { OperatorPlane, RelayPlane } from '../protocol/relay-plane.ts';
import type { Registry } from '../registry/registry.ts';
import type { LeaseEnded } from '../relay/plane-calls.ts';
import type { PlaneClient } from '../relay/plane-client.ts';
import type { Log } from '../telemetry/log.ts';

/** The relay planes that this process can reach, by relay id. */
export interface Planes {
  for(relay: string): Promise<RelayPlane & OperatorPlane>;
  useLocal(relay: string, plane: RelayPlane & OperatorPlane): void;
  close(): void;
}

/** Relay planes by relay id: the one of this process is called directly, others over the network. */
export function createPlanes(
  settings: Settings,
  registry: Registry,
  log: Log,
  onEnded: (event: LeaseEnded) => void,
  tls = settings.relay?.plane?.tls ?? settings.signalling?.planeTls ?? settings.admin?.planeTls,
): Planes {
  const clients = new Map<string, PlaneClient>();
  let local: { relay: string; plane: RelayPlane & OperatorPlane } | null = null;
  return {
    async for(relay) {
      if (local?.relay === relay) return local.plane;
      const found = await registry.relay(relay);
      if (found === null) {
        throw new MooringError(
          'ERR_MOORING_NO_RELAY',
          `relay ${relay} is not running; start it or name another`,
          {
            temporary: true,
            retryAfterMs: 500,
            data: { relay },
          },
        );
      }
      if (tls === undefined) {
        throw new MooringError(
          'ERR_MOORING_CONFIG',
          `relay ${relay} is another process: configure relay.plane.tls, signalling.planeTls or admin.planeTls to reach it`,
        );
      }
      let client = clients.get(found.planeUrl);
      if (client === undefined) {
        const { connectPlane } = await import('../relay/plane-client.ts');
        client = clients.get(found.planeUrl) ?? connectPlane({ url: found.planeUrl, tls, log, onEnded });
        clients.set(found.planeUrl, client);
      }
      return client;
    },
    useLocal(relay, plane) {
      local = { relay, plane };
    },
    close() {
      for (const client of clients.values()) client.close();
    },
  };
}
