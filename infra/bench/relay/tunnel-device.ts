/** The least device that a relay sends to: it binds one path, and seals as many packets as the load asks for. */
import type { SocketAddress } from '../../../src/protocol/address.ts';
import { ControlChannel, peekType } from '../../../src/tunnel/control.ts';
import { DataSender } from '../../../src/tunnel/data.ts';
import { deriveDataKey } from '../../../src/tunnel/keys.ts';
import type { ControlDraft, ControlMessage } from '../../../src/tunnel/message.ts';
import { sipKey } from '../../../src/tunnel/siphash.ts';
import { TYPE } from '../../../src/tunnel/wire.ts';

/** Sends a datagram to the relay; returns what has arrived since, without waiting. */
export interface DevicePort {
  send(datagram: Uint8Array): void;
  received(): Uint8Array[];
}

const BIND_EVERY_MS = 100;
const BIND_WITHIN_MS = 5_000;

/** @throws Error if the relay does not accept the path within 5 s */
export async function bindDevice(
  port: DevicePort,
  session: { readonly root: Uint8Array; readonly index: number },
): Promise<DataSender> {
  const boot = crypto.getRandomValues(new BigUint64Array(1))[0]! | 1n;
  const channel = new ControlChannel({ ...session, boot, sends: 'to-relay' });
  let heard: ControlMessage | undefined;
  const say = (draft: ControlDraft) =>
    port.send(
      channel.seal({ epoch: heard?.epoch ?? 0n, echoBoot: heard?.boot ?? 0n, generation: 1, ...draft }),
    );
  for (let waitedMs = 0; waitedMs < BIND_WITHIN_MS; waitedMs += BIND_EVERY_MS) {
    say({ kind: 'bind', oldPath: 'unknown' });
    await new Promise((resolve) => setTimeout(resolve, BIND_EVERY_MS));
    for (const datagram of port.received()) {
      if (peekType(datagram, 0, datagram.length) !== TYPE.control) continue;
      const message = channel.open(datagram, 0, datagram.length);
      if (typeof message === 'string' || message.echoBoot !== boot) continue;
      heard = message;
      if (message.kind === 'challenge')
        say({ kind: 'proof', cookie: message.cookie, echoCounter: message.counter });
      if (message.kind === 'sync' && message.generation === 1) return senderFor(session, boot, message);
    }
  }
  throw new Error(`the relay accepted no path within ${BIND_WITHIN_MS} ms`);
}

function senderFor(
  { root, index }: { readonly root: Uint8Array; readonly index: number },
  deviceBoot: bigint,
  { epoch, boot: relayBoot, keyNumber }: ControlMessage,
): DataSender {
  const key = deriveDataKey(root, 'to-relay', { epoch, relayBoot, deviceBoot, keyNumber });
  return new DataSender({ key: sipKey(key), index, keyNumber });
}

export function socketAddress(address: string, port: number): SocketAddress {
  return { address, port, key: `${address}|${port}` };
}
