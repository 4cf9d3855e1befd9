import { expect, it } from 'vitest';
import { Grace } from '../../../src/datapath/xdp/grace.ts';
import { Slots } from '../../../src/datapath/xdp/slots.ts';

/** Grace periods that end when the test says so. */
function byHand() {
  const asked: (() => void)[] = [];
  return { grace: new Grace((done) => void asked.push(done)), asked, pass: () => asked.shift()?.() };
}

it('a place is given out again only after a grace period that began behind its return', () => {
  const { grace, pass } = byHand();
  const slots = new Slots(2, grace);
  expect([slots.take(), slots.take(), slots.take()]).toEqual([0, 1, null]);
  slots.giveBack(0);
  // The period for the first one has begun: the second needs the next.
  slots.giveBack(1);
  pass();
  expect([slots.take(), slots.take()]).toEqual([0, null]);
  pass();
  expect(slots.take()).toBe(1);
});

it('what waits while a period runs shares the next one', () => {
  const { grace, asked, pass } = byHand();
  const done: number[] = [];
  grace.after(() => done.push(1));
  grace.after(() => done.push(2));
  grace.after(() => done.push(3));
  expect(asked.length).toBe(1);
  pass();
  expect(done).toEqual([1]);
  pass();
  expect(done).toEqual([1, 2, 3]);
  expect(asked.length).toBe(0);
});

it('places that a former process uses are given to nobody', () => {
  const { grace, pass } = byHand();
  const slots = new Slots(4, grace, [0, 2]);
  expect([slots.take(), slots.take(), slots.take()]).toEqual([1, 3, null]);
  slots.giveBack(2);
  pass();
  expect(slots.take()).toBe(2);
});
