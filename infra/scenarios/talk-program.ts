/**
 * Program: TCP sessions that talk all the time, or the one who answers them. `TalkPlan` is its argument, in JSON; it answers
 * `TalkCommand` on descriptor 3 and ends when that channel closes.
 */
import { connect, createServer } from 'node:net';
import { createInterface } from 'node:readline';
import { serve } from '../lab/control-channel.ts';

export interface End {
  readonly address: string;
  /** 0: any. */
  readonly port: number;
}

export type TalkPlan =
  /** Sends every line back. */
  | { readonly role: 'listen'; readonly at: End }
  /** One session from each of `from`, a numbered line each `everyMs`. */
  | { readonly role: 'talk'; readonly to: End; readonly from: readonly End[]; readonly everyMs: number };

/** `mark`: silence is counted from now on. */
export type TalkCommand = { readonly op: 'report' } | { readonly op: 'mark' };

export interface TalkReport {
  /** Of the listener: whom it took sessions from, as it sees them. */
  readonly seen: readonly End[];
  /** Sessions that stand and have been answered. */
  readonly alive: number;
  /** Why sessions ended or never began. */
  readonly lost: readonly string[];
  /** Answers since the mark, of the session that had fewest. */
  readonly answers: number;
  /** The longest that any session had no answer since the mark, milliseconds. */
  readonly silentMs: number;
}

interface Session {
  sent: number;
  echoed: number;
  lost: boolean;
  answers: number;
  answeredAtMs: number;
  silentMs: number;
}

const plan = JSON.parse(process.argv[2]!) as TalkPlan;
const seen: End[] = [];
const lost: string[] = [];
const sessions: Session[] = [];

function listen({ address, port }: End): Promise<void> {
  const server = createServer((socket) => {
    seen.push({ address: socket.remoteAddress!, port: socket.remotePort! });
    socket.setNoDelay(true);
    socket.on('error', () => {});
    socket.pipe(socket);
  });
  return new Promise((resolve) => server.listen(port, address, resolve));
}

function talk(to: End, from: End, everyMs: number): void {
  const session: Session = { sent: 0, echoed: 0, lost: false, answers: 0, answeredAtMs: 0, silentMs: 0 };
  sessions.push(session);
  const lose = (why: string) => {
    if (session.lost) return;
    session.lost = true;
    lost.push(`${from.address}:${from.port} → ${to.address}:${to.port}: ${why}`);
  };
  const socket = connect({
    ...{ host: to.address, port: to.port, localAddress: from.address },
    ...(from.port === 0 ? {} : { localPort: from.port }),
  });
  socket.setNoDelay(true);
  socket.once('connect', () => {
    session.answeredAtMs = performance.now();
    setInterval(() => socket.write(`${++session.sent}\n`), everyMs);
  });
  socket.on('error', (error) => lose(error.message));
  socket.on('close', () => lose('closed'));
  createInterface({ input: socket }).on('line', (line) => {
    session.echoed += 1;
    if (Number(line) !== session.echoed) lose(`${line} in the place of ${session.echoed}`);
    const nowMs = performance.now();
    session.silentMs = Math.max(session.silentMs, nowMs - session.answeredAtMs);
    session.answeredAtMs = nowMs;
    session.answers += 1;
  });
}

function report(): TalkReport {
  const nowMs = performance.now();
  const standing = sessions.filter((session) => session.echoed > 0 && !session.lost);
  return {
    ...{ seen, lost, alive: standing.length },
    answers: Math.min(...sessions.map(({ answers }) => answers)),
    silentMs: Math.max(
      0,
      ...standing.map(({ silentMs, answeredAtMs }) => Math.max(silentMs, nowMs - answeredAtMs)),
    ),
  };
}

function mark(): void {
  for (const session of sessions) Object.assign(session, { answers: 0, silentMs: 0 });
}

if (plan.role === 'listen') await listen(plan.at);
else for (const from of plan.from) talk(plan.to, from, plan.everyMs);

serve<TalkCommand>(({ op }) => {
  if (op === 'mark') mark();
  return report();
});
