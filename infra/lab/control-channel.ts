/** Requests and answers between the lab and its own programs: newline-delimited JSON on descriptor 3 of the program. */
import { Socket } from 'node:net';
import type { Duplex } from 'node:stream';

export const CONTROL_DESCRIPTOR = 3;

interface Answer {
  readonly id: number;
  readonly result?: unknown;
  readonly error?: string;
}

export interface ControlChannel<Command extends object> {
  /** @throws Error with the program's own message, or if the channel closes first */
  request(command: Command): Promise<unknown>;
}

/** @param name names the program in errors */
export function controlChannel<Command extends object>(
  name: string,
  stream: Duplex,
): ControlChannel<Command> {
  const waiting = new Map<number, (answer: Answer) => void>();
  let nextId = 1;
  let input = '';
  let closed = false;
  stream.setEncoding('utf8');
  stream.on('data', (chunk: string) => {
    input += chunk;
    const lines = input.split('\n');
    input = lines.pop() ?? '';
    for (const line of lines) {
      const answer = JSON.parse(line) as Answer;
      waiting.get(answer.id)?.(answer);
      waiting.delete(answer.id);
    }
  });
  const end = () => {
    closed = true;
    for (const [id, settle] of waiting) settle({ id, error: 'it ended before it answered' });
    waiting.clear();
  };
  stream.on('close', end);
  stream.on('error', end);
  return {
    request(command) {
      return new Promise((resolve, reject) => {
        if (closed) return reject(new Error(`${name}: it has ended`));
        const id = nextId++;
        waiting.set(id, (answer) => {
          if (answer.error !== undefined) reject(new Error(`${name}: ${answer.error}`));
          else resolve(answer.result);
        });
        stream.write(`${JSON.stringify({ id, ...command })}\n`);
      });
    },
  };
}

/**
 * The program's own end: answers each command with what `execute` returns, in order. When the channel closes, `end` ends the
 * process.
 */
export function serve<Command extends object>(
  execute: (command: Command) => unknown | Promise<unknown>,
  end: () => void = () => process.exit(0),
): void {
  const control = new Socket({ fd: CONTROL_DESCRIPTOR });
  control.setEncoding('utf8');
  control.on('close', end);
  let input = '';
  let last = Promise.resolve();
  control.on('data', (chunk: string) => {
    input += chunk;
    const lines = input.split('\n');
    input = lines.pop() ?? '';
    for (const line of lines) {
      const { id, ...command } = JSON.parse(line) as { id: number };
      last = last.then(async () => {
        let answer: object;
        try {
          answer = { id, result: (await execute(command as Command)) ?? null };
        } catch (error) {
          answer = { id, error: error instanceof Error ? (error.stack ?? error.message) : String(error) };
        }
        control.write(`${JSON.stringify(answer)}\n`);
      });
    }
  });
}
