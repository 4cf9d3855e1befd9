import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { type Scripted, scripted } from './scripted-registry.ts';
import {
  type Authority,
  openDoor,
  type ServerFrame,
  startAuthority,
  type TestDoor,
  type TestSocket,
} from './test-door.ts';

let authority: Authority;
let script: Scripted;
let door: TestDoor;
let socket: TestSocket;

beforeAll(async () => {
  authority = await startAuthority();
});
afterAll(() => authority.close());

beforeEach(async () => {
  script = scripted();
  door = await openDoor({ ...script, verifier: authority.verifier, limits: { outstanding: 4 } });
  socket = await door.connect();
  await socket.hello(authority.devices[0]!, authority);
});
afterEach(() => door.close());

const LEASE = { type: 'lease', request: 'ab'.repeat(16), pool: 'whole', kind: 'rsa-ip' };

function errorIn(frame: ServerFrame) {
  if (frame.type !== 'error') expect.fail(`expected an error, got ${JSON.stringify(frame)}`);
  return frame.error;
}

describe('a frame with a fault that can be answered', () => {
  it.each([
    ['an extra field', { ...LEASE, color: 'red' }, 203, 'color is unknown; remove it'],
    ['a missing field', { type: 'lease', pool: 'whole', kind: 'rsa-ip' }, 201, 'request is missing; add it'],
    [
      'a value of another type',
      { ...LEASE, leaseMs: '60000' },
      205,
      'leaseMs is "60000"; it must be integer',
    ],
    ['a value out of range', { ...LEASE, leaseMs: 0 }, 205, 'leaseMs is 0; it must be >= 1000'],
    ['a value outside a choice', { ...LEASE, kind: 'vpn' }, 205, 'kind is "vpn"; use one of "rsa-ip"'],
    ['an unknown type', { type: 'lend' }, 208, 'type is "lend"; use one of hello, lease'],
    ['the name of an inherited property as type', { type: 'constructor' }, 208, 'type is "constructor"'],
    ['no type', {}, 208, 'type is of type undefined; use one of'],
    ['an unknown pool', { ...LEASE, pool: 'other' }, 205, 'pool is "other"; ask the operator'],
    ['a lease id of another form', { type: 'free', lease: '../x' }, 205, 'lease is "../x"'],
    [
      'an address that is none',
      { type: 'rebind', lease: `a.${'L'.repeat(22)}`, datagram: 'A'.repeat(155), address: '1.2.3', port: 1 },
      205,
      'address: "1.2.3" is not valid; write',
    ],
  ])(
    'such as %s is told the field, the value and the remedy, and changes nothing',
    async (_what, frame, rsip, text) => {
      const callsBefore = script.calls.length;
      const error = errorIn(await socket.ask({ ...frame, id: 7 }));
      expect(error.rsip).toBe(rsip);
      expect(error.message).toContain(text);
      expect(script.calls.slice(callsBefore)).toEqual([]);
      expect(await socket.ask({ type: 'ping', id: 8 })).toMatchObject({ type: 'result', id: 8 });
    },
  );

  it('never has a token, a proof or a datagram repeated to it', async () => {
    const other = await door.connect();
    const secret = 'not-a-valid-token'.repeat(500);
    other.send({ type: 'hello', id: 1, token: secret, proof: 'p'.repeat(20), sealingKey: {} });
    const { message } = errorIn(await other.next());
    expect(message).toMatch(/^token is not valid; /);
    expect(message).not.toContain('not-a-valid-token');
  });

  it('of a prototype-polluting name is an extra field like any other', async () => {
    socket.send('{"type":"ping","id":9,"__proto__":{"admin":true}}');
    expect(errorIn(await socket.ask({ type: 'ping', id: 10, x: 1 })).rsip).toBe(203);
    const answer = socket.frames.find((frame) => 'id' in frame && frame.id === 9);
    expect(errorIn(answer!).message).toContain('__proto__ is unknown');
    expect(({} as { admin?: boolean }).admin).toBeUndefined();
  });
});

describe('a frame that cannot be answered ends the socket', () => {
  it.each<[string, string | Buffer, number, RegExp]>([
    ['that is not JSON', '{"type":', 4200, /not a JSON object/],
    ['that is a JSON array', '[]', 4200, /not a JSON object/],
    ['that is null', 'null', 4200, /not a JSON object/],
    ['without an id', '{"type":"ping"}', 4200, /id is missing; add it/],
    ['with an id that is no positive integer', '{"type":"ping","id":0}', 4200, /id is 0/],
    ['with an id that no number can hold', '{"type":"ping","id":1e400}', 4200, /id is/],
    ['that is binary', Buffer.from('{"type":"ping","id":1}'), 4200, /binary; send text/],
  ])('%s', async (_what, bytes, code, message) => {
    socket.send(bytes);
    await expect(socket.closed).resolves.toMatchObject({ code });
    expect(errorIn(socket.frames.at(-1)!).message).toMatch(message);
  });

  it('with the id of an unanswered request', async () => {
    script.gate = () => new Promise(() => {});
    socket.send({ ...LEASE, id: 5 });
    socket.send({ type: 'ping', id: 5 });
    await expect(socket.closed).resolves.toMatchObject({ code: 4200 });
  });

  it('that is not UTF-8, by the protocol’s own code', async () => {
    socket.ws.send(Buffer.from([0x22, 0xff, 0xfe, 0x22]), { binary: false });
    await expect(socket.closed).resolves.toMatchObject({ code: 1007 });
  });

  it('longer than 16 KiB, by the protocol’s own code', async () => {
    socket.send(`{"type":"ping","id":2,"pad":"${'x'.repeat(16_384)}"}`);
    await expect(socket.closed).resolves.toMatchObject({ code: 1009 });
  });

  it('in more pieces than any frame needs', async () => {
    for (let piece = 0; piece < 100; piece += 1) socket.ws.send(' ', { fin: false });
    await expect(socket.closed).resolves.toMatchObject({ code: 1008 });
  });
});

describe('requests of one socket', () => {
  it('are refused beyond the bound of unanswered ones, and served again after an answer', async () => {
    let openGate = () => {};
    const gate = new Promise<void>((resolve) => {
      openGate = resolve;
    });
    script.gate = () => gate;
    for (let id = 2; id <= 5; id += 1) socket.send({ ...LEASE, id });
    const refused = errorIn(await socket.ask({ ...LEASE, id: 6 }));
    expect(refused).toMatchObject({ code: 'ERR_MOORING_TOO_MANY_REQUESTS', temporary: true });
    openGate();
    for (let id = 2; id <= 5; id += 1) expect(await socket.next()).toBeDefined();
    expect(await socket.ask({ ...LEASE, id: 7 })).toMatchObject({ type: 'result' });
  });

  it('are answered while another one waits: a rebind does not queue behind a grant', async () => {
    script.leases = [];
    let openGate = () => {};
    let gates = 0;
    script.gate = () => {
      gates += 1;
      return gates > 1
        ? Promise.resolve()
        : new Promise<void>((resolve) => {
            openGate = resolve;
          });
    };
    const grant = socket.ask({ ...LEASE, id: 2 });
    expect(await socket.ask({ type: 'ping', id: 3 })).toMatchObject({ type: 'result', id: 3 });
    openGate();
    expect(await grant).toMatchObject({ type: 'result', id: 2 });
  });

  it('that fail for a reason of our own say nothing of it', async () => {
    script.gate = () => Promise.reject(new Error('secret of the house'));
    const error = errorIn(await socket.ask({ ...LEASE, id: 2 }));
    expect(error).toMatchObject({ code: 'ERR_MOORING_INTERNAL', rsip: 104, temporary: true });
    expect(JSON.stringify(socket.frames)).not.toContain('secret of the house');
  });
});
