import { createConnection, type Socket } from 'node:net';

export type Reply = string | number | null | readonly Reply[];

interface Waiting {
  resolve(reply: Reply): void;
  reject(error: Error): void;
}

const SPLIT = Symbol('the rest is still on its way');

/**
 * A connection to the real Redis for many small questions: what several worlds ask within one turn leaves in one go, and
 * nothing is made of an answer but what it is.
 */
export class Wire {
  private readonly socket: Socket;
  private readonly scripts = new Map<string, Promise<string>>();
  private readonly keyBlocks = new Map<string, string>();
  private out = '';
  private waiting: Waiting[] = [];
  /** Of `waiting`, the first that has no answer yet. */
  private next = 0;
  private text = '';
  private at = 0;

  constructor(path: string) {
    this.socket = createConnection(path);
    this.socket.on('data', (octets) => this.take(octets));
    this.socket.on('error', (error) => this.end(error));
    this.socket.on('close', () => this.end(new Error('Redis has closed the connection')));
  }

  /** Sends a command. */
  send(...words: readonly string[]): Promise<Reply> {
    return this.put(`*${words.length}\r\n${encoded(words)}`);
  }

  /** Teaches Redis a script, once; resolves with its name there. */
  load(lua: string): Promise<string> {
    let sha = this.scripts.get(lua);
    if (sha === undefined) {
      sha = this.send('SCRIPT', 'LOAD', lua) as Promise<string>;
      this.scripts.set(lua, sha);
    }
    return sha;
  }

  /** Runs a script that was loaded. The first key stands for all of them: they are the parts of one thing. */
  run(sha: string, keys: readonly string[], args: readonly string[]): Promise<Reply> {
    const first = keys[0] ?? '';
    let block = this.keyBlocks.get(first);
    if (block === undefined) {
      block = encoded([String(keys.length), ...keys]);
      this.keyBlocks.set(first, block);
    }
    const words = 3 + keys.length + args.length;
    return this.put(`*${words}\r\n$7\r\nEVALSHA\r\n$40\r\n${sha}\r\n${block}${encoded(args)}`);
  }

  close(): void {
    this.socket.destroy();
  }

  private put(command: string): Promise<Reply> {
    // When everybody has had a turn.
    if (this.out === '') setImmediate(() => this.flush());
    this.out += command;
    return new Promise((resolve, reject) => {
      this.waiting.push({ resolve, reject });
    });
  }

  private flush(): void {
    const { out } = this;
    this.out = '';
    this.socket.write(out, 'latin1');
  }

  private take(octets: Buffer): void {
    // One character an octet, so that lengths hold.
    this.text = this.text.slice(this.at) + octets.toString('latin1');
    this.at = 0;
    for (;;) {
      const began = this.at;
      let reply: Reply | Error | typeof SPLIT;
      try {
        reply = this.read();
      } catch (split) {
        if (split !== SPLIT) throw split;
        this.at = began;
        break;
      }
      const { resolve, reject } = this.waiting[this.next]!;
      this.next += 1;
      if (reply instanceof Error) reject(reply);
      else resolve(reply);
      if (this.at === this.text.length) break;
    }
    this.waiting = this.waiting.slice(this.next);
    this.next = 0;
  }

  /** The reply at `at`, and `at` behind it. */
  private read(): Reply | Error {
    const { text } = this;
    const lineEnd = text.indexOf('\r\n', this.at);
    if (lineEnd < 0) throw SPLIT;
    const kind = text[this.at];
    const line = text.slice(this.at + 1, lineEnd);
    this.at = lineEnd + 2;
    switch (kind) {
      case '$': {
        const length = Number(line);
        if (length < 0) return null;
        const end = this.at + length;
        if (end + 2 > text.length) throw SPLIT;
        const bulk = text.slice(this.at, end);
        this.at = end + 2;
        return bulk;
      }
      case ':':
        return Number(line);
      case '+':
        return line;
      case '-':
        return new Error(line);
      case '*': {
        const count = Number(line);
        if (count < 0) return null;
        const all: Reply[] = [];
        for (let one = 0; one < count; one += 1) all.push(this.read() as Reply);
        return all;
      }
      default:
        throw new Error(`no reply of Redis begins with ${kind}`);
    }
  }

  private end(error: Error): void {
    for (const { reject } of this.waiting.slice(this.next)) reject(error);
    this.waiting = [];
    this.next = 0;
  }
}

/** Nothing is said but characters of one octet. */
function encoded(words: readonly string[]): string {
  let text = '';
  for (const word of words) text += `$${word.length}\r\n${word}\r\n`;
  return text;
}
