import type { TSchema } from 'typebox';
import { describe, expect, test } from 'vitest';
import { checked } from '../../src/protocol/checked.ts';
import { LeaseEvent } from '../../src/protocol/lease.ts';
import {
  AdoptParams,
  ApplyParams,
  ClaimParams,
  HandOverParams,
  InstallParams,
  InstallResult,
  PrepareParams,
  PromiseParams,
  RebindParams,
} from '../../src/protocol/relay-plane.ts';
import { Request, Result, ServerFrame } from '../../src/protocol/signalling.ts';
import events from '../vectors/events.json' with { type: 'json' };
import plane from '../vectors/relay-plane.json' with { type: 'json' };
import signalling from '../vectors/signalling.json' with { type: 'json' };

interface Frames {
  readonly good: readonly { readonly of: string; readonly name?: string; readonly frame: unknown }[];
  readonly bad: readonly {
    readonly of: string;
    readonly name: string;
    readonly field: string;
    readonly frame: unknown;
  }[];
}

const everyEvent = ['granted', 'activated', 'extended', 'ended', 'session', 'owned', 'declared'];
const families: readonly [string, Readonly<Record<string, TSchema>>, Frames][] = [
  ['a request of mooring.v1', Request, signalling.requests],
  ['a result of mooring.v1', Result, signalling.results],
  ['a server frame of mooring.v1', ServerFrame, signalling.serverFrames],
  ['a lease event', Object.fromEntries(everyEvent.map((type) => [type, LeaseEvent])), events],
  [
    'a call of the relay plane',
    {
      install: InstallParams,
      apply: ApplyParams,
      rebind: RebindParams,
      prepare: PrepareParams,
      adopt: AdoptParams,
      promise: PromiseParams,
      handOver: HandOverParams,
      claim: ClaimParams,
    },
    plane.params,
  ],
  ['a result of the relay plane', { install: InstallResult }, plane.results],
];

describe.each(families)('%s', (_, schemas, frames) => {
  const accept = new Map(Object.entries(schemas).map(([name, schema]) => [name, checked(schema)]));
  const checkOf = (of: string) => accept.get(of) ?? expect.fail(`no schema ${of}`);

  test('has an example of each kind', () => {
    expect([...new Set(frames.good.map((entry) => entry.of))].sort()).toEqual(Object.keys(schemas).sort());
  });

  test.each(frames.good)('$of $name is accepted', ({ of, frame }) => {
    expect(checkOf(of)(frame)).toBe(frame);
  });

  test.each(frames.bad)('$of with $name is refused', ({ of, frame }) => {
    expect(() => checkOf(of)(frame)).toThrow(expect.objectContaining({ code: 'ERR_MOORING_BAD_INPUT' }));
  });

  if (schemas.granted === undefined) {
    // A union cannot name one field: each of its forms has another complaint.
    test.each(frames.bad)('$of with $name is refused naming $field', ({ of, frame, field }) => {
      const [top = ''] = field.split('.');
      expect(() => checkOf(of)(frame)).toThrow(top);
    });
  }
});
