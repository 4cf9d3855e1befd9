import { rmSync } from 'node:fs';
import { createConnection, createServer, type Server, type Socket } from 'node:net';
import Type, { type Static } from 'typebox';
import { checked } from '../../src/protocol/checked.ts';
import { badInput, MooringError } from '../../src/protocol/errors.ts';

/** What a local user may ask of the running agent: one JSON line, answered by one. */
export const ControlRequests = {
  status: Type.Object({ command: Type.Literal('status') }, { additionalProperties: false }),
  /** Prefer this link from now on; null: choose by the configuration again. Answered when the relay sends there. */
  use: Type.Object(
    { command: Type.Literal('use'), link: Type.Union([Type.String({ maxLength: 15 }), Type.Null()]) },
    { additionalProperties: false },
  ),
  /** Stop, and take all changes to the machine back; `free` gives the lease back too. */
  down: Type.Object({ command: Type.Literal('down'), free: Type.Boolean() }, { additionalProperties: false }),
} as const;
export type ControlRequest = {
  [K in keyof typeof ControlRequests]: Static<(typeof ControlRequests)[K]>;
}[keyof typeof ControlRequests];

const check = {
  status: checked(ControlRequests.status),
  use: checked(ControlRequests.use),
  down: checked(ControlRequests.down),
};

function readRequest(line: string): ControlRequest {
  let request: unknown;
  try {
    request = JSON.parse(line);
  } catch {
    throw badInput('request', line, 'send one line of JSON');
  }
  const command = (request as { command?: unknown } | null)?.command;
  if (typeof command !== 'string' || !Object.hasOwn(check, command)) {
    throw badInput('command', command, `use one of ${Object.keys(check).join(', ')}`);
  }
  return check[command as keyof typeof check](request);
}

const LONGEST_LINE = 4096;
const ANSWER_TIMEOUT_MS = 20_000;

/**
 * Listens on a unix socket in the state directory, which only its owner can enter. Throws
 * ERR_MOORING_ALREADY_RUNNING when another agent answers there.
 */
export async function serveControl(
  path: string,
  handle: (request: ControlRequest) => Promise<unknown>,
): Promise<{ close(): Promise<void> }> {
  if (await answers(path)) {
    throw new MooringError(
      'ERR_MOORING_ALREADY_RUNNING',
      `${path}: another agent answers there; stop it with \`down\`, or give this one a stateDir of its own`,
    );
  }
  rmSync(path, { force: true });
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on('close', () => sockets.delete(socket));
    socket.on('error', () => socket.destroy());
    readLine(socket, (line) => {
      answer(line, handle).then((text) => socket.end(`${text}\n`));
    });
  });
  await listen(server, path);
  return {
    async close() {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      // Answers that are on their way are let out, idle askers are not waited for.
      setTimeout(() => {
        for (const socket of sockets) socket.destroy();
      }, 200).unref();
      await closed;
    },
  };
}

/** Asks the agent that listens at `path`. Throws ERR_MOORING_NOT_RUNNING, or what the agent reports. */
export function askAgent(path: string, request: ControlRequest): Promise<unknown> {
  return new Promise((resolve, reject) => {
    const socket = createConnection(path);
    socket.setTimeout(ANSWER_TIMEOUT_MS, () => socket.destroy(new Error('no answer')));
    socket.on('error', (cause) =>
      reject(
        new MooringError(
          'ERR_MOORING_NOT_RUNNING',
          `${path}: no agent answers (${cause.message}); start one with \`up\``,
          { cause },
        ),
      ),
    );
    socket.on('connect', () => socket.write(`${JSON.stringify(request)}\n`));
    readLine(
      socket,
      (line) => {
        socket.end();
        const reply = JSON.parse(line) as { result?: unknown; error?: { code: string; message: string } };
        if (reply.error === undefined) resolve(reply.result);
        else reject(new MooringError(reply.error.code as `ERR_MOORING_${string}`, reply.error.message));
      },
      Number.POSITIVE_INFINITY,
    );
  });
}

async function answer(line: string, handle: (request: ControlRequest) => Promise<unknown>): Promise<string> {
  try {
    return JSON.stringify({ result: await handle(readRequest(line)) }, replaceBigint);
  } catch (error) {
    const known = error instanceof MooringError ? error : null;
    return JSON.stringify({
      error: {
        code: known?.code ?? 'ERR_MOORING_BAD_INPUT',
        message: error instanceof Error ? error.message : String(error),
      },
    });
  }
}

function replaceBigint(_key: string, value: unknown): unknown {
  return typeof value === 'bigint' ? value.toString() : value;
}

/** Calls `take` with the first line; a longer one than `longest` ends the socket. */
function readLine(socket: Socket, take: (line: string) => void, longest = LONGEST_LINE): void {
  let text = '';
  let taken = false;
  socket.setEncoding('utf8');
  socket.on('data', (chunk: string) => {
    if (taken) return;
    text += chunk;
    const end = text.indexOf('\n');
    if (end >= 0) {
      taken = true;
      take(text.slice(0, end));
    } else if (text.length > longest) socket.destroy();
  });
}

function listen(server: Server, path: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(path, () => {
      server.off('error', reject);
      resolve();
    });
  });
}

function answers(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = createConnection(path);
    socket.on('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.on('error', () => resolve(false));
  });
}
