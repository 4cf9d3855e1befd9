import { EventEmitter } from 'node:events';
import { Writable } from 'node:stream';
import type { Redis } from 'ioredis';
import { describe, expect, it } from 'vitest';
import { gatherWrites } from '../../../src/registry/gathering.ts';

const turn = () => new Promise((resolve) => setImmediate(resolve));

/** A client whose connection keeps what goes out, a list for each system call. */
function connected() {
  const sent: string[][] = [];
  const stream = () =>
    new Writable({
      write(chunk, _encoding, done) {
        sent.push([String(chunk)]);
        done();
      },
      writev(chunks, done) {
        sent.push(chunks.map(({ chunk }) => String(chunk)));
        done();
      },
    });
  const client = Object.assign(new EventEmitter(), { stream: stream() });
  gatherWrites(client as unknown as Redis);
  client.emit('connect');
  return {
    sent,
    write: (text: string) => client.stream.write(text),
    reconnect() {
      client.stream = stream();
      client.emit('connect');
    },
  };
}

describe('commands to a server', () => {
  it('leave together when a turn asks for several, in their order', async () => {
    const { sent, write } = connected();
    for (const text of ['a', 'b', 'c']) write(text);
    expect(sent).toEqual([]);
    await turn();
    expect(sent).toEqual([['a', 'b', 'c']]);
  });

  it('leave in the turn that asks for them, whatever comes later', async () => {
    const { sent, write } = connected();
    write('a');
    await turn();
    write('b');
    await turn();
    expect(sent.flat()).toEqual(['a', 'b']);
    expect(sent).toHaveLength(2);
  });

  it('leave together on the next connection as well', async () => {
    const { sent, write, reconnect } = connected();
    write('lost');
    reconnect();
    for (const text of ['a', 'b']) write(text);
    await turn();
    expect(sent).toContainEqual(['a', 'b']);
  });
});
