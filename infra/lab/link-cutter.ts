/**
 * Cuts loopback links between addresses: packets are dropped, nobody is told. The rules belong to a child process
 * and vanish with it, however it ends. Root only.
 */
import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { once } from 'node:events';

export interface LinkCutter {
  /** Drops everything between the two addresses of each pair, both ways. */
  cut(pairs: readonly (readonly string[])[]): Promise<void>;
  heal(): Promise<void>;
  close(): Promise<void>;
}

let made = 0;

export async function linkCutter(): Promise<LinkCutter> {
  made += 1;
  const table = `inet mooring-links-${process.pid}-${made}`;
  const nft = spawn('setpriv', ['--pdeathsig', 'KILL', 'nft', '-i'], { stdio: 'pipe' });
  const tell = teller(nft);
  await tell(
    `add table ${table} { flags owner; }`,
    `add set ${table} cut { type ipv4_addr . ipv4_addr; }`,
    `add chain ${table} input { type filter hook input priority -300; }`,
    `add rule ${table} input iifname lo ip saddr . ip daddr @cut drop`,
  );
  return {
    async cut(pairs) {
      const both = pairs.flatMap(([a, b]) => [`${a} . ${b}`, `${b} . ${a}`]);
      if (both.length > 0) await tell(`add element ${table} cut { ${both.join(', ')} }`);
    },
    heal: () => tell(`flush set ${table} cut`),
    async close() {
      const ended = once(nft, 'exit');
      nft.stdin.end();
      await ended;
    },
  };
}

/** Gives lines to nft; resolves when they are done. */
function teller(nft: ChildProcessWithoutNullStreams): (...lines: readonly string[]) => Promise<void> {
  let printed = '';
  let faults = '';
  const waiting = new Set<() => void>();
  const wake = () => {
    for (const one of [...waiting]) one();
  };
  nft.stdout.setEncoding('utf8').on('data', (text: string) => {
    printed += text;
    wake();
  });
  nft.stderr.setEncoding('utf8').on('data', (text: string) => {
    faults += text;
    wake();
  });
  nft.on('exit', wake);
  nft.stdin.on('error', () => undefined);
  return async (...lines) => {
    printed = '';
    faults = '';
    // The listing is printed after all before it is done.
    nft.stdin.write(`${[...lines, 'list tables inet'].join('\n')}\n`);
    while (!printed.includes('table inet ')) {
      if (faults.includes('Error') || nft.exitCode !== null) throw new Error(`nft (root only): ${faults}`);
      await new Promise<void>((resolve) => {
        const one = () => {
          waiting.delete(one);
          resolve();
        };
        waiting.add(one);
      });
    }
  };
}
