import type { Session } from './session.ts';

/** The key that `boot` is told of: another incarnation than the one in force gets the next one when it proves itself. */
export function keyNumberFor({ boots, keys }: Session, boot: bigint): number {
  return boot === boots.current || boots.current === 0n ? keys.newest : keys.newest + 1;
}

/** The device was seen to have this key: if it is the newest one, downlink goes under it from now on. */
export function noteDeviceHas({ boots, keys, out }: Session, keyNumber: number): void {
  if (keyNumber !== keys.newest || keys.sender === keyNumber || boots.current === 0n) return;
  keys.sender = keyNumber;
  keys.announcement = null;
  out.push({ type: 'sender-keys', keyNumber });
}

/** Has the newest key derived, and received under. */
export function provideNewest({ boots, keys, out }: Session): void {
  out.push({ type: 'keys', deviceBoot: boots.current, keyNumber: keys.newest });
}
