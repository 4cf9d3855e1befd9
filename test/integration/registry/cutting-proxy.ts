import { connect, createServer, type Socket } from 'node:net';

/** A socket between client and server that can lose an answer, or rewrite answers. */
export interface CuttingProxy {
  readonly socket: string;
  /** The answer after `others` others is thrown away, and its connection with it. */
  cutAnswerAfter(others: number): void;
  /** True once it was. */
  readonly cut: boolean;
  stop(): void;
}

/** Listens on `<target>.proxy`. `rewrite` must keep the length of what it changes. */
export async function cuttingProxy(target: string, rewrite = (text: string) => text): Promise<CuttingProxy> {
  let left = Number.POSITIVE_INFINITY;
  let cut = false;
  const open = new Set<Socket>();
  const server = createServer((client) => {
    const upstream = connect(target);
    open.add(client).add(upstream);
    client.on('error', () => upstream.destroy()).on('close', () => upstream.destroy());
    upstream.on('error', () => client.destroy()).on('close', () => client.destroy());
    client.pipe(upstream);
    upstream.on('data', (data) => {
      left -= 1;
      if (left < 0) {
        left = Number.POSITIVE_INFINITY;
        cut = true;
        client.destroy();
        return;
      }
      client.write(rewrite(data.toString('latin1')), 'latin1');
    });
  });
  const socket = `${target}.proxy`;
  await new Promise<void>((resolve) => server.listen(socket, resolve));
  return {
    socket,
    cutAnswerAfter(others) {
      left = others;
      cut = false;
    },
    get cut() {
      return cut;
    },
    stop() {
      for (const one of open) one.destroy();
      server.close();
    },
  };
}
