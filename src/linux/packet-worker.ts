import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';
import { MessageChannel, type MessagePort, type Transferable, Worker, workerData } from 'node:worker_threads';
import { MooringError } from '../protocol/errors.ts';
import { PACKET_WORKER_STOP } from './packet-loop.ts';
import { createWakeup } from './poll.ts';

/** How long a worker may take to end by itself after `stop`, milliseconds. */
const STOP_GRACE_MS = 2000;

export interface PacketWorkerOptions {
  /** The worker's module; `workerModule` finds it beside the caller, in source and in the built tree. */
  readonly url: URL;
  /** What the worker reads as `packetWorkerData().settings`; structured-cloneable. */
  readonly settings: unknown;
  readonly transfer?: readonly Transferable[];
  readonly onMessage: (message: unknown) => void;
  /** Called once when the thread has ended: the error that ended it, or null after `stop`. */
  readonly onExit?: (error: Error | null) => void;
}

/** The main thread's side of a packet worker. */
export interface PacketWorker {
  /** Posts a message and wakes the loop; order is kept. A worker that has ended takes nothing. */
  post(message: unknown): void;
  /** Ends the loop, so that the worker's module can clean up behind it; ends the thread if it does not end. */
  stop(): Promise<void>;
}

export interface PacketWorkerData<Settings> {
  readonly port: MessagePort;
  readonly wakeupFd: number;
  readonly settings: Settings;
}

/** Called in the worker's module: what `startPacketWorker` passed. */
export function packetWorkerData<Settings>(): PacketWorkerData<Settings> {
  return workerData as PacketWorkerData<Settings>;
}

/** `./name.ts` beside the calling module, or `./name.js` when that is compiled. */
export function workerModule(name: string, importMetaUrl: string): URL {
  return new URL(`${name}${importMetaUrl.endsWith('.ts') ? '.ts' : '.js'}`, importMetaUrl);
}

/** `execArgv` of a worker that runs from source: it takes no loader from its parent. */
export function typescriptLoader(): string[] {
  const api = pathToFileURL(createRequire(import.meta.url).resolve('tsx/esm/api')).href.replace(
    /cjs$/,
    'mjs',
  );
  const register = `import { register } from ${JSON.stringify(api)}; register();`;
  return ['--import', `data:text/javascript,${encodeURIComponent(register)}`];
}

/** Starts a thread that runs a packet loop, with a port of its own and an eventfd to wake it. */
export function startPacketWorker(options: PacketWorkerOptions): PacketWorker {
  const { port1: near, port2: far } = new MessageChannel();
  const wakeup = createWakeup();
  const data: PacketWorkerData<unknown> = { port: far, wakeupFd: wakeup.fd, settings: options.settings };
  const worker = new Worker(options.url, {
    workerData: data,
    transferList: [far, ...(options.transfer ?? [])],
    ...(options.url.pathname.endsWith('.ts') ? { execArgv: typescriptLoader() } : {}),
  });
  near.on('message', options.onMessage);

  // Without it the exit of the process would wait for the thread to come back from the kernel.
  // A wake-up alone is not enough: the loop would go back to waiting before the thread is told to end.
  const leave = () => {
    near.postMessage([PACKET_WORKER_STOP]);
    wakeup.wake();
  };
  process.once('exit', leave);

  let failure: Error | null = null;
  let stopping = false;
  let ended = false;
  worker.once('error', (error) => {
    failure = error;
  });
  const exited = new Promise<void>((resolve) => {
    worker.once('exit', (code) => {
      ended = true;
      process.off('exit', leave);
      // What the worker posted last is still on its way: it comes before the report of the end.
      setImmediate(() => {
        near.close();
        wakeup.close();
        if (failure === null && !stopping) {
          failure = new MooringError(
            'ERR_MOORING_PACKET_WORKER',
            `packet worker ${options.url.pathname} ended with code ${code} without being asked; see the log above`,
          );
        }
        options.onExit?.(failure);
        resolve();
      });
    });
  });

  // What is posted at once crosses at once: a message is cloned and read for tens of microseconds, a wake-up is a system call.
  let posted: unknown[] = [];
  const send = (): void => {
    const messages = posted;
    posted = [];
    if (ended) return;
    near.postMessage(messages);
    wakeup.wake();
  };
  const post = (message: unknown): void => {
    if (ended) return;
    if (posted.push(message) === 1) queueMicrotask(send);
  };

  return {
    post,
    async stop() {
      if (!ended && !stopping) {
        stopping = true;
        post(PACKET_WORKER_STOP);
        const timer = setTimeout(() => {
          void worker.terminate();
          if (!ended) wakeup.wake();
        }, STOP_GRACE_MS);
        await exited;
        clearTimeout(timer);
      }
      await exited;
    },
  };
}
