import { randomBytes } from 'node:crypto';
import type { RelaySettings } from '../config/schema.ts';
import type { EngineClient } from '../datapath/userspace/client.ts';
import type { XdpWish } from '../datapath/xdp/fast-engine.ts';
import { nativeCryptography } from '../linux/native-cryptography.ts';
import { trafficRules } from '../relay/traffic-rules.ts';
import { useCryptography } from '../tunnel/cryptography.ts';
import type { Supervised } from './supervised.ts';

/** A relay's packet engine, and the incarnation that it speaks for. */
export interface RelayEngine {
  /** 8 octets, hexadecimal. */
  readonly boot: string;
  readonly client: EngineClient;
}

/**
 * Starts the packet engine before anything else of a relay is loaded: its thread loads its own modules meanwhile. It goes
 * on with the sockets that the supervisor has kept, and takes no packet before `begin`.
 */
export async function startRelayEngine(relay: RelaySettings, supervised: Supervised): Promise<RelayEngine> {
  const { startUserspaceEngine } = await import('../datapath/userspace/client.ts');
  useCryptography(nativeCryptography);
  const boot = randomBytes(8).toString('hex');
  const client = await startUserspaceEngine({
    ...trafficRules(relay),
    tun: relay.tun,
    port: relay.port,
    relayBoot: BigInt(`0x${boot}`),
    inherited: supervised.briefing.kept,
    xdp: xdpOf(relay),
    // A datagram that waited for this process is to find its anchor served.
    waits: true,
  });
  supervised.give({ ...client.descriptors });
  return { boot, client };
}

/** What the settings say about XDP. */
function xdpOf(relay: RelaySettings): XdpWish {
  const { id, engine, accessInterfaces, bpffs, xdpSessions } = relay;
  return {
    relay: id,
    interfaces: [relay.interface, ...accessInterfaces.filter((name) => name !== relay.interface)],
    bpffs,
    sessions: xdpSessions,
    anyDevice: engine === 'xdp',
    wish: ({ auto: 'auto', xdp: 'required', userspace: 'off' } as const)[engine],
  };
}
