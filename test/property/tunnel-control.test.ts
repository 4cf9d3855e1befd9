import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { formatAddress, socketAddress } from '../../src/protocol/address.ts';
import { ControlChannel } from '../../src/tunnel/control.ts';
import { decodeBody, encodeBody } from '../../src/tunnel/control-body.ts';
import type { ControlDraft } from '../../src/tunnel/message.ts';

const ROOT = new Uint8Array(32).fill(9);
const INDEX = 0x00fffe;
const device = () => new ControlChannel({ root: ROOT, sends: 'to-relay', index: INDEX, boot: 0xd1n });
const relay = () => new ControlChannel({ root: ROOT, sends: 'to-device', index: INDEX, boot: 0xe1n });

const u16 = fc.integer({ min: 0, max: 0xffff });
const u32 = fc.integer({ min: 0, max: 0xffffffff });
const u64 = fc.bigInt({ min: 0n, max: 2n ** 64n - 1n });
const cookie = fc.uint8Array({ minLength: 16, maxLength: 16 });
const observed = fc.option(
  fc
    .tuple(
      fc.oneof(
        fc.uint8Array({ minLength: 4, maxLength: 4 }),
        // `::` is no host's address, and stands for "not said".
        fc
          .uint8Array({ minLength: 16, maxLength: 16 })
          .filter((address) => address.some((octet) => octet > 0)),
      ),
      u16,
    )
    .map(([address, port]) => socketAddress(formatAddress(address), port)),
  { nil: null },
);
const all = { epoch: u64, echoBoot: u64, echoCounter: u64 };
const drafts: fc.Arbitrary<ControlDraft> = fc.oneof(
  fc.record({
    kind: fc.constant('bind' as const),
    ...all,
    generation: u32,
    oldPath: fc.constantFrom('unknown' as const, 'alive' as const, 'dead' as const),
  }),
  fc.record({ kind: fc.constantFrom('hold' as const, 'keepalive' as const), ...all, generation: u32 }),
  fc.record({ kind: fc.constant('proof' as const), ...all, generation: u32, cookie }),
  fc.record({
    kind: fc.constant('challenge' as const),
    ...all,
    generation: u32,
    keyNumber: u32,
    cookie,
    observed,
  }),
  fc.record({
    kind: fc.constant('sync' as const),
    ...all,
    generation: u32,
    keyNumber: u32,
    observed,
    delayMs: u16,
  }),
  fc.record({ kind: fc.constant('notice' as const), ...all, generation: u32, keyNumber: u32, code: u16 }),
);
const upward = (draft: ControlDraft) => ['bind', 'proof', 'hold', 'keepalive'].includes(draft.kind);

describe('any CONTROL message', () => {
  test('crosses as it was meant', () => {
    const ends = { up: [device(), relay()] as const, down: [relay(), device()] as const };
    fc.assert(
      fc.property(drafts, (draft) => {
        const [sender, receiver] = upward(draft) ? ends.up : ends.down;
        const datagram = sender.seal(draft);
        expect(datagram).toHaveLength(116);
        expect(receiver.open(datagram, 0, 116)).toMatchObject({
          ...draft,
          boot: sender.boot,
          counter: sender.lastCounter,
        });
      }),
      { numRuns: 1_000 },
    );
  });

  test('has one body, and no other octets decode to it', () => {
    fc.assert(
      fc.property(drafts, fc.nat(72 * 8 - 1), (draft, bit) => {
        const body = encodeBody(draft);
        body[bit >> 3]! ^= 1 << (bit & 7);
        const changed = decodeBody(body);
        if (changed !== null) expect(encodeBody(changed)).toEqual(body);
      }),
      { numRuns: 5_000 },
    );
  });

  test('is refused when any bit is flipped', () => {
    const [sender, receiver] = [device(), relay()];
    fc.assert(
      fc.property(fc.nat(116 * 8 - 1), (bit) => {
        const datagram = sender.seal({ kind: 'keepalive' });
        datagram[bit >> 3]! ^= 1 << (bit & 7);
        expect(receiver.open(datagram, 0, 116)).toBeTypeOf('string');
      }),
      { numRuns: 2_000 },
    );
  });
});

/** At most this long: fuzz-tunnel.test.ts looks longer, at all that is behind this. */
const FUZZ_MS = 1_000;

describe('octets that no device sent', () => {
  test('never throw and never open', () => {
    const receiver = relay();
    const authentic = device().seal({ kind: 'keepalive' });
    const mutated = fc
      .array(fc.tuple(fc.nat(115), fc.integer({ min: 1, max: 255 })), { minLength: 1, maxLength: 8 })
      .map((changes) => {
        const datagram = Uint8Array.from(authentic);
        for (const [at, change] of changes) datagram[at] = (datagram[at]! + change) & 0xff;
        return datagram;
      })
      .filter((datagram) => datagram.some((octet, at) => octet !== authentic[at]));
    const lengths = fc.oneof(
      fc.uint8Array({ maxLength: 300 }),
      fc.uint8Array({ minLength: 116, maxLength: 116 }),
    );
    let opened = 0;
    fc.assert(
      fc.property(fc.oneof(lengths, mutated), fc.nat(300), (datagram, at) => {
        opened += 1;
        expect(receiver.open(datagram, 0, datagram.length)).toBeTypeOf('string');
        expect(receiver.open(datagram, at, datagram.length)).toBeTypeOf('string');
      }),
      { numRuns: 1_000_000, interruptAfterTimeLimit: FUZZ_MS, markInterruptAsFailure: false },
    );
    expect(opened).toBeGreaterThan(1_000);
  });
});
