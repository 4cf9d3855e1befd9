import { type ChildProcess, fork } from 'node:child_process';
import { createDescriptorChannel, takeDescriptors } from '../linux/descriptor-passing.ts';
import { closeFd } from '../linux/libc.ts';
import { BEAT_MS, BRIEFING, type Briefing, type CheckedSettings, type FromServer } from './supervision.ts';
import { createWatch, type Watch } from './watch.ts';

/** The process may take so long from its start to its first word, milliseconds. */
const FIRST_BEAT_MS = 60_000;
/** Silent for so many beats, it is away; for so many more it will not come back by itself. */
const AWAY_BEATS = 1_000 / BEAT_MS;
const HUNG_BEATS = 2_000 / BEAT_MS;
/** Asked to stop, it may take so long, milliseconds. */
const STOP_MS = 15_000;
/** One that served so long had no bad start: the next is started at once. */
const GOOD_RUN_MS = 10_000;
const BACK_OFF = { firstMs: 100, mostMs: 5_000 } as const;

/** Index of the first inherited descriptor: standard streams, then Node's own channel, then ours. */
const CHANNEL_AT = 4;

/**
 * Runs the process that serves, and keeps for it what must outlive it: the open sockets (datagrams wait in them, and the
 * kernel never answers "port unreachable" for a process that died), its claims in the registry, and the deadlines in
 * the data path. Resolves with the exit status when it was asked to stop, or when the first start failed.
 *
 * It imports little: what is small has little reason to fail, and it is there for the case that something fails.
 */
export function supervise(configFile: string, engine?: string): Promise<number> {
  const [near, far] = createDescriptorChannel();
  const kept = new Map<string, number>();
  const watch: Watch = createWatch({ endProcess: () => void child?.kill('SIGKILL') });
  let settings: CheckedSettings | null = null;
  let child: ChildProcess | null = null;
  let wasUp = false;
  let stopping = false;
  let restarts = 0;
  let badStarts = 0;
  let lastEnd: string | null = null;
  let pause: NodeJS.Timeout | undefined;
  let silentBeats = 0;
  let ticker: NodeJS.Timeout | undefined;

  return new Promise<number>((resolve) => {
    const finish = (status: number): void => {
      clearInterval(ticker);
      clearTimeout(pause);
      watch.close();
      resolve(status);
    };

    function start(): void {
      const names = [...kept.keys()];
      const briefing: Briefing = {
        supervisor: process.pid,
        restarts,
        lastEnd,
        channel: CHANNEL_AT,
        kept: Object.fromEntries(names.map((name, i) => [name, CHANNEL_AT + 1 + i])),
        settings,
      };
      const startedMs = performance.now();
      let isUp = false;
      const options = engine === undefined ? [] : ['--engine', engine];
      const started = fork(beside('server-process'), ['--config', configFile, ...options], {
        stdio: ['inherit', 'inherit', 'inherit', 'ipc', far, ...names.map((name) => kept.get(name)!)],
        env: { ...process.env, [BRIEFING]: JSON.stringify(briefing) },
      });
      child = started;
      silentBeats = -FIRST_BEAT_MS / BEAT_MS;
      started.on('message', (message) => {
        if (child !== started) return;
        const told = message as FromServer;
        switch (told.type) {
          case 'beat':
            if (silentBeats >= AWAY_BEATS) {
              watch.log('info', { silentMs: silentBeats * BEAT_MS }, 'the process is back');
              watch.back();
            }
            silentBeats = 0;
            return;
          case 'up':
            isUp = true;
            wasUp = true;
            watch.back();
            return;
          case 'given':
            keep();
            return;
          case 'settings':
            settings = told.settings;
            return;
          default:
            watch.told(told);
        }
      });
      let isOver = false;
      const over = (end: string, status: number) => {
        if (isOver) return;
        isOver = true;
        child = null;
        if (stopping || !wasUp) {
          finish(status);
          return;
        }
        watch.away();
        badStarts = isUp && performance.now() - startedMs > GOOD_RUN_MS ? 0 : badStarts + 1;
        const delayMs =
          badStarts <= 1 ? 0 : Math.min(BACK_OFF.firstMs * 2 ** (badStarts - 2), BACK_OFF.mostMs);
        lastEnd = end;
        restarts += 1;
        watch.log('error', { end, restarts, delayMs }, 'the process has ended: starting it again');
        pause = setTimeout(start, delayMs);
      };
      started.once('exit', (code, signal) =>
        // Asked to stop before it could listen for that, it has nothing to put in order.
        over(
          signal === null ? `exit status ${code}` : `signal ${signal}`,
          code ?? (stopping && signal === 'SIGTERM' ? 0 : 1),
        ),
      );
      started.once('error', (error) => over(error.message, 1));
    }

    function keep(): void {
      for (let given = takeDescriptors(near); given !== null; given = takeDescriptors(near)) {
        for (const [name, fd] of Object.entries(given)) {
          const former = kept.get(name);
          kept.set(name, fd);
          if (former !== undefined) closeFd(former);
        }
      }
    }

    /** Counts beats, not time: a machine that stood still says nothing about the process. */
    ticker = setInterval(() => {
      if (child === null) return;
      silentBeats += 1;
      if (silentBeats === AWAY_BEATS) {
        watch.log('warn', { silentMs: silentBeats * BEAT_MS }, 'the process is silent');
        watch.away();
      }
      if (silentBeats === HUNG_BEATS && !stopping) {
        watch.log('error', { silentMs: silentBeats * BEAT_MS }, 'the process hangs: ending it');
        child.kill('SIGKILL');
      }
    }, BEAT_MS);

    const stop = (): void => {
      if (stopping) return;
      stopping = true;
      if (child === null) {
        finish(0);
        return;
      }
      // Before the process stops: a private registry ends with its last user.
      watch.close();
      child.kill('SIGTERM');
      setTimeout(() => child?.kill('SIGKILL'), STOP_MS).unref();
    };
    process.on('SIGINT', stop);
    process.on('SIGTERM', stop);
    // Another program or another configuration: the next process takes over what this one leaves, if it can read that.
    process.on('SIGHUP', () => {
      let isJudged = false;
      const judge = (code: number | null) => {
        if (isJudged) return;
        isJudged = true;
        if (code === 0) child?.kill('SIGTERM');
        else watch.log('error', {}, 'the process is not replaced: its configuration is wrong');
      };
      const check = fork(beside('main'), ['check', '--config', configFile], {
        stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
      });
      check.once('exit', judge);
      check.once('error', () => judge(null));
    });
    start();
  });
}

/** A program beside this file, in source and in the built tree. */
function beside(name: string): URL {
  return new URL(`./${name}${import.meta.url.endsWith('.ts') ? '.ts' : '.js'}`, import.meta.url);
}
