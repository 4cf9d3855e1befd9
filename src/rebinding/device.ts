import type { DeviceRebinding, DeviceRebindingOptions } from './device-io.ts';

/** The device's side of one session's rebinds. */
export function createDeviceRebinding(_options: DeviceRebindingOptions): DeviceRebinding {
  throw new Error('not there yet');
}
