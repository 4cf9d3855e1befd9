import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { MooringError } from '../../src/protocol/errors.ts';

const run = promisify(execFile);

/** Runs `ip` (iproute2). Throws ERR_MOORING_SYSTEM with what it printed. */
export async function ip(...args: readonly string[]): Promise<string> {
  try {
    const { stdout } = await run('ip', args, { timeout: 10_000, maxBuffer: 16 << 20 });
    return stdout;
  } catch (cause) {
    const said = (cause as { stderr?: string }).stderr?.trim();
    throw new MooringError(
      'ERR_MOORING_SYSTEM',
      `ip ${args.join(' ')}: ${said || (cause as Error).message}; run as root, with iproute2 installed`,
      { cause },
    );
  }
}

/** The same, parsed (`ip -json`). */
export async function ipJson<T>(...args: readonly string[]): Promise<readonly T[]> {
  const text = await ip('-json', ...args);
  return text.trim() === '' ? [] : (JSON.parse(text) as T[]);
}
