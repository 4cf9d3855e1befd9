import { MooringError } from '../protocol/errors.ts';
import type { Device, Lease } from '../protocol/lease.ts';
import type { Connection } from './connection.ts';
import { clientsKey, deviceKeys } from './keys.ts';
import type { Registry } from './registry.ts';

/** Client ids are 32 bits, and never 0. */
const CLIENT_IDS = 0xffff_ffff;

/** A device's registration (RFC 3103 §9.2). */
export interface Registration {
  /** Unique among all registrations. */
  readonly clientId: number;
  /** It ends then, unless a lease makes it last longer. */
  readonly remainingMs: number;
}

/** What binds a device to the registry beside its leases. */
export interface Registrations {
  /**
   * Registers a device for `leaseMs`. It lasts as long as the device's longest lease does, however that is extended (RFC
   * 3103 §6). `held`: its leases, where they are known. Throws ERR_MOORING_ALREADY_REGISTERED (302, with the client id) when it is registered, unless `again`.
   */
  register(params: {
    device: Device;
    leaseMs: number;
    again?: boolean;
    held?: readonly Lease[];
  }): Promise<Registration>;
  /** Null when the device is not registered. */
  registration(device: Device): Promise<Registration | null>;
  /** Forgets the registration; its leases have to be freed before. Whether there was one. */
  deregister(device: Device): Promise<boolean>;
}

export function registrationCommands(
  connection: Connection,
  { deviceLeases }: Pick<Registry, 'deviceLeases'>,
): Registrations {
  const boundMs = async (device: Device) => longest(await deviceLeases(device));

  const enter = async (device: Device, clientId: number, leaseMs: number, bound: number) =>
    (await connection.run('register', deviceKeys(device), [clientId, leaseMs, bound])) as [
      clientId: number,
      remainingMs: number,
      isNew: number,
    ];

  return {
    async register({ device, leaseMs, again = false, held }) {
      const bound = held === undefined ? await boundMs(device) : longest(held);
      let [clientId, remainingMs, isNew] = await enter(device, 0, leaseMs, bound);
      if (clientId === 0) {
        const drawn = await connection.plain((redis) => redis.incr(clientsKey()));
        [clientId, remainingMs, isNew] = await enter(device, ((drawn - 1) % CLIENT_IDS) + 1, leaseMs, bound);
      }
      if (isNew === 1 || again) return { clientId, remainingMs };
      throw new MooringError(
        'ERR_MOORING_ALREADY_REGISTERED',
        `device ${device.id} is registered as client ${clientId}; go on with that, or de-register first`,
        { rsip: 302, data: { clientId } },
      );
    },

    async registration(device) {
      const [clientId, remainingMs] = await enter(device, 0, 0, await boundMs(device));
      return clientId === 0 ? null : { clientId, remainingMs };
    },

    async deregister(device) {
      return (await connection.run('deregister', deviceKeys(device), [])) === 1;
    },
  };
}

function longest(leases: readonly Lease[]): number {
  return Math.max(0, ...leases.map(({ remainingMs }) => remainingMs));
}
