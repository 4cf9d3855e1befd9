import type { RequestOf } from '../protocol/signalling.ts';
import type { Caller, Door } from './door.ts';

/** The steps of a `hello` that may fail, in order; what they find out is the caller. Nothing is changed by them. */
export async function greet(frame: RequestOf<'hello'>, nonce: string, door: Door): Promise<Caller> {
  const principal = await door.verifier.verify(frame.token, frame.proof, {
    nonce,
    url: door.url,
    seal: frame.sealingKey.x,
  });
  const held = await door.registry.deviceLeases(principal.device);
  return {
    principal,
    sealing: { key: frame.sealingKey, proof: frame.proof },
    freeing: new Set(),
    leases: new Map(held.map((lease) => [lease.id, lease])),
  };
}
