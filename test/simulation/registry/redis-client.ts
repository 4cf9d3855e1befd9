import { EventEmitter } from 'node:events';
import type { Redis } from 'ioredis';
import { linkOf, type Network } from './network.ts';
import type { Process } from './scheduler.ts';
import type { Execution, Servers } from './servers.ts';

/** As long as the product's own connection waits for an answer. */
const COMMAND_TIMEOUT_MS = 1_000;

/**
 * What a process takes for its Redis client: every command crosses the simulated network to a server, and its answer
 * comes back, or not. Only what the registry's own connection uses.
 */
export function simulatedClient(
  process: Process,
  network: Network,
  servers: Servers,
  onExecuted: (execution: Execution) => void,
): Redis {
  const events = new EventEmitter();
  const keyCounts = new Map<string, number>();
  const from = process.host.id;
  for (const { id } of servers.list) {
    network.onChange(linkOf(from, id), (cut) => {
      if (cut === 'refused') events.emit('close');
      else if (cut === undefined) events.emit('ready');
    });
  }

  function send(name: string, all: readonly unknown[]): Promise<unknown> {
    const text = all.map(String);
    const count = keyCounts.get(name) ?? 1;
    const [keys, args] = [text.slice(0, count), text.slice(count)];
    const server = servers.of(keys[0]!);
    return new Promise((resolve, reject) => {
      if (network.isRefused(from, server.id)) {
        reject(new Error('connect ECONNREFUSED'));
        return;
      }
      const cancel = process.after(COMMAND_TIMEOUT_MS, () => reject(new Error('Command timed out')));
      const database = servers.databaseFor(server, from);
      const answer = (deliver: () => void) =>
        network.send(
          server.id,
          from,
          process.guarded(() => {
            cancel();
            deliver();
          }),
        );
      const arrive = () =>
        servers.serve(server, async () => {
          // A primary that was voted out and that nobody is deceived about any more answers no more.
          if (database !== server.current && database !== servers.databaseFor(server, from)) return;
          try {
            let result: unknown;
            if (servers.isScript(name)) {
              const execution = await servers.execute(from, name, keys, args, database);
              onExecuted(execution);
              result = execution.answer;
            } else {
              result = await servers.plain(name, all, database);
            }
            answer(() => resolve(result));
          } catch (error) {
            answer(() => reject(error as Error));
          }
        });
      network.send(from, server.id, arrive, true);
    });
  }

  const client = {
    status: 'ready',
    on: (event: string, heard: (...all: unknown[]) => void) => events.on(event, heard),
    off: (event: string, heard: (...all: unknown[]) => void) => events.off(event, heard),
    defineCommand: (name: string, { numberOfKeys }: { numberOfKeys: number }) =>
      void keyCounts.set(name, numberOfKeys),
    disconnect: () => undefined,
  };
  return new Proxy(client, {
    get: (target, name) => {
      if (name in target) return target[name as keyof typeof target];
      if (typeof name !== 'string' || name === 'then') return undefined;
      return (...all: unknown[]) => send(name, all);
    },
  }) as unknown as Redis;
}
