import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createConnection } from 'node:net';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { askAgent, type ControlRequest, serveControl } from '../../../clients/laptop/control-socket.ts';
import { MooringError } from '../../../src/protocol/errors.ts';

let directory: string;
let path: string;
let server: { close(): Promise<void> } | null = null;

beforeEach(() => {
  directory = mkdtempSync('/tmp/mooring-control-');
  path = join(directory, 'agent.sock');
});
afterEach(async () => {
  await server?.close();
  server = null;
  rmSync(directory, { recursive: true, force: true });
});

async function serve(handle: (request: ControlRequest) => Promise<unknown>): Promise<void> {
  server = await serveControl(path, handle);
}

/** What the agent answers to a line that our own client would not send. */
function say(line: string): Promise<string> {
  return new Promise((resolve) => {
    let answer = '';
    const socket = createConnection(path, () => socket.write(line));
    socket.setEncoding('utf8');
    socket.on('data', (chunk: string) => {
      answer += chunk;
    });
    socket.on('close', () => resolve(answer));
    socket.on('error', () => {});
  });
}

describe("the agent's control socket", () => {
  test('answers a request with the result, numbers of 64 bits as text', async () => {
    await serve(async (request) => ({ heard: request, epoch: 2n ** 60n }));
    expect(await askAgent(path, { command: 'use', link: 'wlan0' })).toEqual({
      heard: { command: 'use', link: 'wlan0' },
      epoch: '1152921504606846976',
    });
  });

  test('reports what the agent refuses, by code', async () => {
    await serve(async () => {
      throw new MooringError('ERR_MOORING_NO_LINK', 'wlan9 is not there; usable: wlan0');
    });
    await expect(askAgent(path, { command: 'use', link: 'wlan9' })).rejects.toMatchObject({
      code: 'ERR_MOORING_NO_LINK',
      message: 'wlan9 is not there; usable: wlan0',
    });
  });

  test.each([
    ['no JSON', '{\n', /ERR_MOORING_BAD_INPUT/],
    [
      'an unknown command',
      '{"command":"reboot"}\n',
      /command: .*reboot.* is not valid; use one of status, use, down/,
    ],
    ['a command without its field', '{"command":"use"}\n', /link is missing; add it/],
  ])('refuses %s and goes on', async (_what, line, answer) => {
    const heard: ControlRequest[] = [];
    await serve(async (request) => {
      heard.push(request);
      return {};
    });
    expect(await say(line)).toMatch(answer);
    expect(heard).toEqual([]);
    await askAgent(path, { command: 'status' });
    expect(heard).toEqual([{ command: 'status' }]);
  });

  test('does not keep what never ends', async () => {
    await serve(async () => ({}));
    expect(await say('x'.repeat(5_000))).toBe('');
  });

  test('is held by one agent at a time', async () => {
    await serve(async () => ({}));
    await expect(serveControl(path, async () => ({}))).rejects.toMatchObject({
      code: 'ERR_MOORING_ALREADY_RUNNING',
    });
  });

  test('left behind by a crash is in nobody’s way', async () => {
    writeFileSync(path, '');
    await serve(async () => ({}));
    expect(await askAgent(path, { command: 'status' })).toEqual({});
  });

  test('nobody there is told with the remedy', async () => {
    await expect(askAgent(path, { command: 'status' })).rejects.toMatchObject({
      code: 'ERR_MOORING_NOT_RUNNING',
      message: expect.stringMatching(/no agent answers .*; start one with `up`/),
    });
  });
});
