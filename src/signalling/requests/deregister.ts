import type { Handler } from '../door.ts';
import { freeLease } from './free.ts';

/**
 * Frees all that the device holds and forgets its registration (RFC 3103 §9.4). What cannot be freed now fails the
 * request: it may be sent again, and what is freed stays so.
 */
export const deregister: Handler<'deregister'> = async (_frame, caller, door) => {
  const { device } = caller.principal;
  const held = await door.registry.deviceLeases(device);
  for (const { id } of held) await freeLease(id, caller, door);
  await door.registry.deregister(device);
  return { freed: held.map(({ id }) => id) };
};
