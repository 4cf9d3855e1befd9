import { describe, expect, test } from 'vitest';
import { encodeBody } from '../../src/tunnel/control-body.ts';
import { fuzz, type Target } from '../fuzz/fuzzer.ts';
import { mutated } from '../fuzz/mutate.ts';
import { importMutant } from '../simulation/mutants.ts';

const bodies = [encodeBody({ kind: 'bind', epoch: 1n, echoBoot: 2n, generation: 3 })];

function target(read: (octets: Uint8Array) => void): Target {
  return {
    name: 'a parser',
    inputs: bodies,
    draw: (random) => mutated(random, bodies),
    read: (input) => read(input as Uint8Array),
  };
}

describe('the fuzzer finds', () => {
  test('a parser that reads more than is there', async () => {
    const { modules, dispose } = await importMutant(
      {
        name: 'the length of a CONTROL body is not looked at',
        edits: [
          {
            file: 'src/tunnel/control-body.ts',
            find: 'if (octets.length !== CONTROL.body) return null;',
            replace: '',
          },
        ],
      },
      'src/tunnel/control-body.ts',
    );
    try {
      const decode = modules[0]!.decodeBody as (octets: Uint8Array) => unknown;
      expect(() => fuzz(target(decode), { seed: 1, seconds: 2 })).toThrow(
        /seed 1, input \d+\) threw.*RangeError/s,
      );
    } finally {
      dispose();
    }
  });

  test('a parser that keeps what it reads', () => {
    const kept: Uint8Array[] = [];
    const keep = (octets: Uint8Array) => void kept.push(new Uint8Array(2 ** 20 + octets.length));
    expect(() => fuzz(target(keep), { seed: 1, seconds: 1 })).toThrow(/the heap has grown/);
  });

  test('a parser that takes too long over one input', () => {
    const dawdle = (octets: Uint8Array) => {
      if (octets.length === 72) return;
      for (const beganMs = performance.now(); performance.now() - beganMs < 2_050; );
    };
    expect(() => fuzz(target(dawdle), { seed: 1, seconds: 4 })).toThrow(/took \d+ ms/);
  });
});
