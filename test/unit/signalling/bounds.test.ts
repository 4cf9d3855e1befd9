import { describe, expect, it } from 'vitest';
import { MooringError } from '../../../src/protocol/errors.ts';
import { errorBody } from '../../../src/signalling/error-body.ts';
import { createFrameRate } from '../../../src/signalling/frame-rate.ts';
import { createPresence, type PresentSocket } from '../../../src/signalling/presence.ts';
import { createStrangers } from '../../../src/signalling/strangers.ts';

describe('a frame rate', () => {
  it('gives the burst at once, then the sustained rate, and says how long to wait', () => {
    const rate = createFrameRate(10, 3);
    expect([rate.take(0), rate.take(0), rate.take(0)]).toEqual([0, 0, 0]);
    expect(rate.take(0)).toBe(100);
    expect(rate.take(50)).toBe(50);
    expect(rate.take(100)).toBe(0);
    expect(rate.take(100)).toBe(100);
  });

  it('saves up no more than the burst, however long the silence', () => {
    const rate = createFrameRate(10, 3);
    rate.take(0);
    const taken = Array.from({ length: 5 }, () => rate.take(1_000_000_000));
    expect(taken.filter((waitMs) => waitMs === 0)).toHaveLength(3);
  });
});

describe('strangers', () => {
  it('are counted by address, and by /64 of IPv6', () => {
    const strangers = createStrangers(2);
    expect(strangers.admit('2001:db8::1')).not.toBeNull();
    expect(strangers.admit('2001:db8::ffff:2')).not.toBeNull();
    expect(strangers.admit('2001:db8::3')).toBeNull();
    expect(strangers.admit('2001:db8:0:1::3')).not.toBeNull();
  });

  it('are counted together however an IPv4 address is written', () => {
    const strangers = createStrangers(1);
    expect(strangers.admit('192.0.2.1')).not.toBeNull();
    expect(strangers.admit('::ffff:192.0.2.1')).toBeNull();
  });

  it('with a zone in their address are counted as well', () => {
    expect(createStrangers(1).admit('fe80::1%eth0')).not.toBeNull();
  });

  it('leave once, however often their end is reported', () => {
    const strangers = createStrangers(2);
    const leave = strangers.admit('192.0.2.1');
    strangers.admit('192.0.2.1');
    leave?.();
    leave?.();
    expect(strangers.admit('192.0.2.1')).not.toBeNull();
    expect(strangers.admit('192.0.2.1')).toBeNull();
  });
});

describe('presence', () => {
  const device = { tenant: 'acme', id: 'laptop-1' };
  const socket = (name: string, gone: string[]): PresentSocket => ({ takeOver: () => gone.push(name) });

  it('keeps the newest sockets of a device and sends the oldest away', () => {
    const gone: string[] = [];
    const presence = createPresence(2);
    const sockets = ['a', 'b', 'c'].map((name) => socket(name, gone));
    for (const one of sockets) presence.arrive(device, one);
    expect(gone).toEqual(['a']);
    expect(presence.of(device)).toEqual(sockets.slice(1));
  });

  it('tells devices of different tenants apart', () => {
    const gone: string[] = [];
    const presence = createPresence(1);
    presence.arrive(device, socket('a', gone));
    presence.arrive({ tenant: 'globex', id: 'laptop-1' }, socket('b', gone));
    expect(gone).toEqual([]);
  });

  it('forgets a device with its last socket', () => {
    const presence = createPresence(2);
    const one = socket('a', []);
    presence.arrive(device, one);
    presence.leave(device, one);
    presence.leave(device, one);
    expect(presence.of(device)).toEqual([]);
  });
});

describe('what a device is told of an error', () => {
  it('is the code, the RSIP number and name, the message, and when to come back', () => {
    const error = new MooringError('ERR_MOORING_X', 'thing is value; remedy', {
      rsip: 306,
      temporary: true,
      retryAfterMs: 12.3,
      data: { internal: 'detail' },
    });
    expect(errorBody(error)).toEqual({
      code: 'ERR_MOORING_X',
      rsip: 306,
      name: 'BAD_BIND_ID',
      message: 'thing is value; remedy',
      temporary: true,
      retryAfterMs: 13,
    });
  });

  it('is nothing about what failed inside', () => {
    expect(JSON.stringify(errorBody(new TypeError('cannot read secrets of undefined')))).not.toContain(
      'secrets',
    );
    const full = new MooringError('ERR_MOORING_JOURNAL', '/var/lib/mooring/a1.journal cannot be written');
    expect(JSON.stringify(errorBody(full))).not.toContain('/var');
    expect(errorBody('a thrown string')).toMatchObject({ code: 'ERR_MOORING_INTERNAL', temporary: true });
  });
});
