import { describe, expect, it } from 'vitest';
import { HOLD, HoldQueue } from '../../../src/datapath/userspace/hold.ts';

const packet = (mark: number, octets: number) => new Uint8Array(octets).fill(mark);

function released(queue: HoldQueue): number[] {
  const marks: number[] = [];
  queue.release((buffer, at) => marks.push(buffer[at]!));
  return marks;
}

describe('held packets', () => {
  it('are released in order, each once, with room for a header in front', () => {
    const queue = new HoldQueue({ freeOctets: 10_000 }, 16);
    for (let mark = 1; mark <= 5; mark += 1) expect(queue.push(packet(mark, 10), 0, 10)).toBe(true);
    const seen: number[][] = [];
    queue.release((buffer, at, length) => seen.push([buffer[at]!, at, length, buffer.length]));
    expect(seen).toEqual([1, 2, 3, 4, 5].map((mark) => [mark, 16, 10, 26]));
    expect(released(queue)).toEqual([]);
  });

  it('are copies: the buffer they came in is used again', () => {
    const queue = new HoldQueue({ freeOctets: 10_000 }, 16);
    const buffer = packet(1, 10);
    queue.push(buffer, 0, 10);
    buffer.fill(2);
    expect(released(queue)).toEqual([1]);
  });

  it('are bounded in octets, and what came first stays', () => {
    const queue = new HoldQueue({ freeOctets: 10 * HOLD.octets }, 16);
    let taken = 0;
    while (queue.push(packet(taken & 0xff, 1384), 0, 1384)) taken += 1;
    expect(taken).toBe(Math.floor(HOLD.octets / 1400));
    expect(released(queue)[0]).toBe(0);
    expect(queue.push(packet(9, 1384), 0, 1384)).toBe(true);
  });

  it('are bounded in number', () => {
    const queue = new HoldQueue({ freeOctets: 10 * HOLD.octets }, 16);
    for (let i = 0; i < HOLD.packets; i += 1) expect(queue.push(packet(1, 20), 0, 20)).toBe(true);
    expect(queue.push(packet(1, 20), 0, 20)).toBe(false);
  });

  it('of all queues together keep within the budget, and give it back', () => {
    const budget = { freeOctets: 100 };
    const one = new HoldQueue(budget, 16);
    const other = new HoldQueue(budget, 16);
    expect(one.push(packet(1, 40), 0, 40)).toBe(true);
    expect(other.push(packet(2, 40), 0, 40)).toBe(false);
    expect(one.clear()).toBe(1);
    expect(other.push(packet(2, 40), 0, 40)).toBe(true);
    released(other);
    expect(budget.freeOctets).toBe(100);
  });
});
