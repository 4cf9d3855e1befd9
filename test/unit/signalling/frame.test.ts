import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Request } from '../../../src/protocol/signalling.ts';
import { parseFrame } from '../../../src/signalling/frame.ts';
import valid from '../../vectors/signalling.json' with { type: 'json' };

/** Frames that are nearly right: valid ones with members exchanged for anything. */
const nearlyRight = fc
  .record({
    type: fc.oneof(fc.constantFrom(...Object.keys(Request)), fc.string()),
    members: fc.dictionary(
      fc.oneof(fc.constantFrom('id', 'lease', 'token', '__proto__'), fc.string()),
      fc.jsonValue(),
    ),
  })
  .map(({ type, members }) => JSON.stringify({ type, id: 1, ...members }));

describe('parsing a frame', () => {
  it('accepts every golden request as it is', () => {
    for (const { frame } of valid.requests.good) {
      expect(parseFrame(JSON.stringify(frame)), JSON.stringify(frame).slice(0, 200)).toEqual({
        kind: 'request',
        frame,
      });
    }
  });

  it('never throws, and refuses with a code, a field and a remedy, whatever comes', () => {
    const seed = Date.now() & 0x7fffffff;
    const anything = fc.oneof(
      { weight: 3, arbitrary: nearlyRight },
      fc.json(),
      fc.string({ unit: 'binary' }),
      fc.string({ unit: 'grapheme', maxLength: 2_000 }),
    );
    fc.assert(
      fc.property(anything, (text) => {
        const parsed = parseFrame(text);
        if (parsed.kind === 'request') return;
        expect(parsed.error.code).toBe('ERR_MOORING_BAD_FRAME');
        expect(parsed.error.rsip).toBeGreaterThanOrEqual(201);
        expect(parsed.error.message).toContain('; ');
        expect(parsed.error.message.length).toBeLessThan(400);
      }),
      { seed, numRuns: 500, verbose: 1 },
    );
  });

  it.each([
    ['deep arrays', '['.repeat(8_000) + ']'.repeat(8_000)],
    ['deep objects', `${'{"a":'.repeat(2_700)}1${'}'.repeat(2_700)}`],
    [
      'deep values in a known field',
      `{"type":"lease","id":1,"pool":${'['.repeat(8_000)}${']'.repeat(8_000)}}`,
    ],
    [
      'many fields',
      `{"type":"ping","id":1,${Array.from({ length: 1_500 }, (_, at) => `"f${at}":1`).join(',')}}`,
    ],
    ['a long string where a pattern is checked', `{"type":"free","id":1,"lease":"${'a'.repeat(16_000)}"}`],
    ['an escape that is half a character', '{"type":"\\ud800","id":1}'],
  ])('bears %s within 16 KiB, quickly', (_what, text) => {
    expect(text.length).toBeLessThanOrEqual(16_384);
    const startedMs = performance.now();
    expect(parseFrame(text).kind).toBe('bad');
    expect(performance.now() - startedMs).toBeLessThan(250);
  });
});
