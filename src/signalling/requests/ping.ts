import type { Handler } from '../door.ts';

/** Shows the device that this socket is alive in both directions. */
export const ping: Handler<'ping'> = async () => ({});
