/** The far end of a control channel: what the benchmark's own programs in namespaces answer on descriptor 3. */
import { Socket } from 'node:net';
import { CONTROL_DESCRIPTOR } from '../lab/control-channel.ts';

/** Answers each command with what `execute` returns, in order; the process ends when the channel closes. */
export function serve<Command extends object>(
  execute: (command: Command) => unknown | Promise<unknown>,
): void {
  const control = new Socket({ fd: CONTROL_DESCRIPTOR });
  control.setEncoding('utf8');
  control.on('close', () => process.exit(0));
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
