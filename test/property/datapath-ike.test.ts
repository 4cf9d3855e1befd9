import fc from 'fast-check';
import { expect, it } from 'vitest';
import { decideDownlink } from '../../src/datapath/decision/downlink.ts';
import { packetHeaders, readPacket } from '../../src/datapath/decision/packet.ts';
import { LeaseTables } from '../../src/datapath/decision/tables.ts';
import { decideUplink } from '../../src/datapath/decision/uplink.ts';
import { ip, lease, udp } from '../unit/datapath/packets.ts';

const SHARED = ['203.0.113.7', '2001:db8::7'] as const;
const PEER = ['198.51.100.9', '2001:db8:ffff::9'] as const;
/** Blocks of the devices by the first 16 bits; few numbers, so that what is drawn meets. */
const DEVICES = 3;
const prefix = fc.integer({ min: 0, max: 5 });

function tables(): LeaseTables<number> {
  const made = new LeaseTables<number>();
  for (const address of SHARED) {
    for (let device = 0; device < DEVICES; device += 1) {
      const granted = lease({
        kind: 'rsipsec',
        address,
        ports: { first: 1024 + device * 64, count: 64 },
        spis: { first: 0x1000_0000 * (device + 1), count: 16 },
        ikeSpis: { first: (device + 1) * 0x1_0000, count: 0x1_0000 },
      });
      made.put(granted, device, 1e9, 0);
    }
  }
  return made;
}

interface Message {
  readonly family: 0 | 1;
  readonly port: 500 | 4500;
  readonly version: 1 | 2 | 3;
  readonly fromInitiator: boolean;
  /** First 16 bits of either half; 0 0 is the half that is not there yet. */
  readonly initiator: number;
  readonly responder: number;
  readonly tail: number;
}

const messages: fc.Arbitrary<Message> = fc.record({
  family: fc.constantFrom(0 as const, 1 as const),
  port: fc.constantFrom(500 as const, 4500 as const),
  version: fc.constantFrom(1 as const, 2 as const, 2 as const, 3 as const),
  fromInitiator: fc.boolean(),
  initiator: prefix,
  responder: prefix,
  tail: fc.integer({ min: 0, max: 1 }),
});

function octetsOf({ port, version, fromInitiator, initiator, responder, tail }: Message): Uint8Array {
  const out = new Uint8Array(28);
  const view = new DataView(out.buffer);
  view.setUint16(0, initiator);
  view.setUint16(8, responder);
  out[7] = tail;
  out[15] = tail;
  out[17] = version << 4;
  out[19] = fromInitiator ? 0x08 : 0;
  return udp(port, port, port === 500 ? out : Uint8Array.of(0, 0, 0, 0, ...out));
}

/** The half of the SPIs that is the device's, by whoever sent the message; null where nobody can tell. */
function deviceHalf(message: Message, sender: 'device' | 'peer'): { prefix: number; name: string } | null {
  const { version, fromInitiator, initiator, responder, tail } = message;
  if (version === 3) return null;
  const isInitiators = version === 1 || fromInitiator === (sender === 'device');
  const first = isInitiators ? initiator : responder;
  return first === 0 && tail === 0 ? null : { prefix: first, name: `${first} ${tail}` };
}

it('R50, R52: IKE goes to the holder of the device’s half, or to who was seen to use it, and to nobody else', () => {
  const steps = fc.array(fc.record({ message: messages, device: fc.integer({ min: 0, max: DEVICES }) }), {
    maxLength: 40,
  });
  fc.assert(
    fc.property(steps, (all) => {
      const made = tables();
      const headers = packetHeaders();
      /** By address and SPI: who used it, outside the blocks. */
      const used = new Map<string, number>();
      for (const { message, device } of all) {
        const { family } = message;
        const sender = device === DEVICES ? 'peer' : 'device';
        const ends = [SHARED[family], PEER[family]] as const;
        const [from, to] = sender === 'device' ? ends : [ends[1], ends[0]];
        const packet = ip(from, to, 17, octetsOf(message));
        expect(readPacket(packet, 0, packet.length, headers)).toBe(true);
        const half = deviceHalf(message, sender);
        const holder = half === null ? undefined : half.prefix - 1;
        const isLeased = holder !== undefined && holder >= 0 && holder < DEVICES;
        const name = `${family} ${half?.name}`;
        if (sender === 'peer') {
          const verdict = decideDownlink(made, packet, headers, 0);
          const owner = isLeased ? holder : half === null ? undefined : used.get(name);
          expect(typeof verdict === 'string' ? verdict : verdict.session).toBe(owner ?? 'ike-unmatched');
          continue;
        }
        const drop = decideUplink(made, device, packet, headers, 0);
        if (half === null) expect(drop).toBe('ike-malformed');
        else if (isLeased) expect(drop).toBe(holder === device ? null : 'ike-cookie-taken');
        else {
          const owner = used.get(name) ?? device;
          expect(drop).toBe(owner === device ? null : 'ike-cookie-taken');
          used.set(name, owner);
        }
      }
    }),
    { numRuns: 1000 },
  );
});
