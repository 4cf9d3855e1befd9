import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { HOLD } from '../../src/datapath/userspace/hold.ts';
import { CLOSE, Request, SUBPROTOCOL } from '../../src/protocol/signalling.ts';
import { HOLD_MS } from '../../src/rebinding/relay/hold.ts';
import { SIGNALLING_LIMITS } from '../../src/signalling/limits.ts';
import { directionOf } from '../../src/tunnel/control-body.ts';
import {
  BODY,
  CONTROL,
  DATA,
  INNER_MTU,
  KIND,
  OLD_PATH,
  TUNNEL_PORT,
  WINDOW_SIZE,
} from '../../src/tunnel/wire.ts';
import events from '../vectors/events.json' with { type: 'json' };
import plane from '../vectors/relay-plane.json' with { type: 'json' };

const page = readFileSync(new URL('../../PROTOCOL.md', import.meta.url), 'utf8');

/** Text of one numbered section. */
function section(number: string): string {
  const [, from = ''] = page.split(new RegExp(`^#{2,3} ${number.replace('.', '\\.')}[. ].*$`, 'm'));
  return from.split(/^#{2,3} /m)[0] ?? '';
}

/** Rows of the first table of a text whose header begins with `first`, cell by cell. */
function table(text: string, first: string): string[][] {
  const lines = text.split('\n');
  const start = lines.findIndex((line) => line.startsWith(`| ${first} `));
  const rows: string[][] = [];
  for (const line of lines.slice(start + 2)) {
    if (!line.startsWith('|')) break;
    rows.push(
      line
        .split('|')
        .slice(1, -1)
        .map((cell) => cell.trim()),
    );
  }
  return rows;
}

const count = (value: number): string => value.toLocaleString('en-US');
const names = (cell: string): string[] => cell.replaceAll('`', '').replace(/\{.*/, '').trim().split(', ');

describe('PROTOCOL.md', () => {
  test('has the layout of the CONTROL body', () => {
    const rows = table(section('2.2'), 'offset');
    const written = rows.map(([offset, , octets]) => [Number(offset), Number(octets)]);
    const offsets = Object.values(BODY).sort((left, right) => left - right);
    expect(written).toEqual(offsets.map((at, row) => [at, (offsets[row + 1] ?? CONTROL.body) - at]));
    const [kind, oldPath] = rows.map((row) => row[3]);
    expect(kind).toBe(
      Object.entries(KIND)
        .map(([name, number]) => `${number} ${name}`)
        .join(', '),
    );
    expect(oldPath).toBe(
      Object.entries(OLD_PATH)
        .map(([name, number]) => `${number} ${name}`)
        .join(', '),
    );
  });

  test('has the direction of every kind', () => {
    const rows = table(section('2.2'), 'kind');
    const written = rows.flatMap(([kinds = '', direction]) => names(kinds).map((kind) => [kind, direction]));
    const known = Object.keys(KIND).map((kind) => [
      kind,
      directionOf(kind as keyof typeof KIND).replace('-', ' '),
    ]);
    expect(written.sort()).toEqual(known.sort());
  });

  test('has the offsets of the CONTROL header', () => {
    const written = [...section('2.2').matchAll(/^ +(?:offset )?(\d+) {4}/gm)].map((match) =>
      Number(match[1]),
    );
    const { first, index, boot, counter, tag, sealed } = CONTROL;
    expect(written).toEqual([first, index, boot, counter, tag, sealed]);
    expect(section('2.2')).toContain(`exactly ${CONTROL.length} octets`);
    expect(DATA.inner).toBe(16);
  });

  test('has every request, event and call', () => {
    const requests = table(section('7'), 'request').flatMap(([name = '']) => names(name));
    expect(['hello', ...requests].sort()).toEqual(Object.keys(Request).sort());
    const types = table(section('8'), 'type').flatMap(([name = '']) => names(name));
    expect(types.sort()).toEqual([...new Set(events.good.map((entry) => entry.of))].sort());
    const calls = table(section('9'), 'call').flatMap(([name = '']) => names(name));
    expect(calls.sort()).toEqual([...new Set(plane.params.good.map((entry) => entry.of))].sort());
    expect(page).toContain(SUBPROTOCOL);
  });

  test('has every close code', () => {
    const rows = table(section('7'), 'close code');
    const written = rows.flatMap(([codes = '', called = '']) => {
      const values = codes.split(', ').map(Number);
      return names(called).map((name, at) => [name, values[at]]);
    });
    expect(written).toEqual(Object.entries(CLOSE).map(([name, code]) => [name, code]));
  });

  test('has the limits of the code', () => {
    const limits = new Map(table(section('10'), 'what').map(([what, value]) => [what, value]));
    expect(limits.get('replay window')).toBe(count(WINDOW_SIZE));
    expect(limits.get('hold')).toBe(
      `${HOLD_MS / 1000} s, ${HOLD.octets / 1024} KiB, ${count(HOLD.packets)} packets`,
    );
    const { maxFrameBytes, outstanding, bufferedBytes, framesPerSecond, frameBurst } = SIGNALLING_LIMITS;
    expect(limits.get('signalling: frame / unanswered requests / unread octets')).toBe(
      `${count(maxFrameBytes)} octets / ${outstanding} / ${count(bufferedBytes)}`,
    );
    expect(limits.get('signalling: rate per socket')).toBe(
      `${framesPerSecond} frames a second, burst ${frameBurst}`,
    );
    const { helloTimeoutMs, ownerTimeoutMs } = SIGNALLING_LIMITS;
    expect(limits.get("signalling: hello, owner's answer")).toBe(
      `${helloTimeoutMs / 1000} s, ${ownerTimeoutMs / 1000} s`,
    );
    expect(page).toContain(`default port ${TUNNEL_PORT}`);
    expect(page).toContain(`by default ${count(INNER_MTU)}`);
  });
});
