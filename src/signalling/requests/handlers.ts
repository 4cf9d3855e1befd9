import type { RequestFrame, RequestName, ResultOf } from '../../protocol/signalling.ts';
import type { Caller, Door, Handler } from '../door.ts';
import { attach } from './attach.ts';
import { deregister } from './deregister.ts';
import { extend } from './extend.ts';
import { free } from './free.ts';
import { lease } from './lease.ts';
import { ping } from './ping.ts';
import { pools } from './pools.ts';
import { rebind } from './rebind.ts';

const HANDLERS = { lease, attach, extend, free, pools, deregister, rebind, ping } as const;

/** A request of a device that has said hello. */
export type WorkFrame = Exclude<RequestFrame, { type: 'hello' }>;

export function handle(frame: WorkFrame, caller: Caller, door: Door): Promise<ResultOf<RequestName>> {
  const handler = HANDLERS[frame.type] as Handler<WorkFrame['type']>;
  return handler(frame as never, caller, door);
}
