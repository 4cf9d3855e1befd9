import type { RequestOf } from '../protocol/signalling.ts';
import type { Registration } from '../registry/registration.ts';
import type { Caller, Door } from './door.ts';

/** The steps of a `hello` that may fail, in order; what they find out is the caller. They change nothing but that it is registered. */
export async function greet(
  frame: RequestOf<'hello'>,
  nonce: string,
  door: Door,
): Promise<Caller & { readonly registration: Registration }> {
  const principal = await door.verifier.verify(frame.token, frame.proof, {
    nonce,
    url: door.url,
    seal: frame.sealingKey.x,
  });
  const held = await door.registry.deviceLeases(principal.device);
  const registration = await door.registry.register({
    device: principal.device,
    leaseMs: door.limits.registrationMs,
    again: true,
    held,
  });
  return {
    principal,
    registration,
    sealing: { key: frame.sealingKey, proof: frame.proof },
    freeing: new Set(),
    leases: new Map(held.map((lease) => [lease.id, lease])),
  };
}
