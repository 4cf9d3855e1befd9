import type { Device } from '../protocol/lease.ts';

/** A socket that a device is present on. */
export interface PresentSocket {
  /** Ends the socket because a newer one of the device took its place. */
  takeOver(): void;
}

/** Which sockets of this node belong to which device. */
export interface Presence<S extends PresentSocket> {
  /** Adds a socket; the oldest of the device go when there are more than `perDevice`. */
  arrive(device: Device, socket: S): void;
  leave(device: Device, socket: S): void;
  /** The device's sockets, oldest first. */
  of(device: Device): readonly S[];
}

export function createPresence<S extends PresentSocket>(perDevice: number): Presence<S> {
  const sockets = new Map<string, S[]>();
  const key = (device: Device) => `${device.tenant}/${device.id}`;
  return {
    arrive(device, socket) {
      const present = [...(sockets.get(key(device)) ?? []), socket];
      const outgoing = present.splice(0, Math.max(0, present.length - perDevice));
      sockets.set(key(device), present);
      for (const older of outgoing) older.takeOver();
    },
    leave(device, socket) {
      const left = (sockets.get(key(device)) ?? []).filter((other) => other !== socket);
      if (left.length === 0) sockets.delete(key(device));
      else sockets.set(key(device), left);
    },
    of: (device) => sockets.get(key(device)) ?? [],
  };
}
