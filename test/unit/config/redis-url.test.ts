import { describe, expect, it } from 'vitest';
import { parseRedisUrl, withoutPassword } from '../../../src/config/redis-url.ts';
import { MooringError } from '../../../src/protocol/errors.ts';

const none = { tls: false, user: null, password: null };
const host = (name: string, port: number) => ({ host: name, port });

describe('the URL of a registry', () => {
  it.each([
    ['/run/redis.sock', { shape: 'socket', path: '/run/redis.sock' }],
    ['redis://10.0.0.1', { ...none, shape: 'standalone', hosts: [host('10.0.0.1', 6379)], database: 0 }],
    [
      'redis://r.example:7000/3',
      { ...none, shape: 'standalone', hosts: [host('r.example', 7000)], database: 3 },
    ],
    [
      'rediss://me:a%40b%2Fc@[2001:db8::1]:7000',
      {
        ...{ tls: true, user: 'me', password: 'a@b/c' },
        ...{ shape: 'standalone', hosts: [host('2001:db8::1', 7000)], database: 0 },
      },
    ],
    [
      'redis+sentinel://s1,s2:1,[::1]/main',
      {
        ...none,
        ...{ shape: 'sentinel', primaryName: 'main' },
        hosts: [host('s1', 26379), host('s2', 1), host('::1', 26379)],
      },
    ],
    [
      'rediss+cluster://me@c1:7001,c2',
      {
        tls: true,
        user: 'me',
        password: null,
        shape: 'cluster',
        hosts: [host('c1', 7001), host('c2', 6379)],
      },
    ],
    [
      'redis://:secret@h',
      { ...none, password: 'secret', shape: 'standalone', hosts: [host('h', 6379)], database: 0 },
    ],
  ])('%s says what it says', (text, address) => {
    expect(parseRedisUrl(text)).toEqual(address);
  });

  it.each([
    ['http://h', /write redis:\/\/HOST:PORT, redis\+sentinel/],
    ['redis://', /write redis:/],
    ['redis://h:0', /"h:0" is no HOST:PORT/],
    ['redis://h:70000', /"h:70000" is no HOST:PORT/],
    ['redis://2001:db8::1', /IPv6 address stands in brackets/],
    ['redis://h1,h2', /for several hosts write redis\+sentinel:\/\/ or redis\+cluster:\/\//],
    ['redis://h/name', /only be the number of a database/],
    ['redis+sentinel://h1,h2', /end it with the name that the sentinels have/],
    ['redis+cluster://h/1', /no numbered databases/],
    ['redis://u:%zz@h', /write % .* as %25/],
    ['redis://h?tls=1', /no HOST:PORT/],
  ])('%s is refused with what to write', (text, words) => {
    expect(() => parseRedisUrl(text)).toThrow(words);
  });

  it.each([
    'redis://me:se/cret@h',
    'redis://me:se@cret@h',
    'redis://:secret@h:x',
    'rediss+cluster://me:secret@h1,h2:0',
    'redis+sentinel://me:secret@h',
    'redis://me:s:ecret%zz@h',
  ])('%s is never shown with its password, also when it is wrong', (text) => {
    expect(withoutPassword(text)).not.toMatch(/cret/);
    let message = '';
    try {
      parseRedisUrl(text);
    } catch (error) {
      expect(error).toBeInstanceOf(MooringError);
      message = `${(error as Error).message} ${JSON.stringify(error)}`;
    }
    expect(message).toContain('redisUrl');
    expect(message).not.toMatch(/cret/);
  });

  it('is shown whole when there is no password in it', () => {
    for (const text of ['redis://h:1/2', 'redis+cluster://me@h:1,h2:2', '/run/a:b@c.sock']) {
      expect(withoutPassword(text)).toBe(text);
    }
  });
});
