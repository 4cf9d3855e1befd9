import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { MOORING } from '../../../infra/lab/fleet.ts';
import { nodeCommand } from '../../../infra/lab/node-command.ts';
import { cluster, type RedisShape, until, withSentinels } from '../../../infra/lab/redis-shapes.ts';
import { openRegistry } from '../../../src/registry/open.ts';
import { silent } from './real-redis.ts';

const PASSWORD = 'correct-horse-battery';
const user = { name: 'mooring', password: PASSWORD };

let directory: string;
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'mooring-serve-'));
});
afterAll(() => rmSync(directory, { recursive: true, force: true }));

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as { port: number };
  server.close();
  return port;
}

test.each([
  ['sentinels', () => withSentinels({ user, replicas: 1 })],
  ['a cluster', () => cluster({ user, replicas: 0, tls: true })],
])(
  'mooring serve works with %s; the password of its file is not in its arguments, environment and log',
  async (name, start) => {
    const [shape, port] = await Promise.all([(start as () => Promise<RedisShape>)(), freePort()]);
    let server: ChildProcess | undefined;
    try {
      const redisUrl = shape.url.replace('://', `://${user.name}@`);
      const redis = { ...shape.tls, passwordFile: join(directory, `${name}.password`) };
      writeFileSync(redis.passwordFile, `${PASSWORD}\n`, { mode: 0o600 });
      const configFile = join(directory, `${name}.yaml`);
      const anchors = [{ id: 'a1', home: 'r1', endpoints: ['203.0.113.1'], prefixes: ['192.0.2.0/24'] }];
      writeFileSync(
        configFile,
        JSON.stringify({
          ...{ dataDir: join(directory, name), redisUrl, redis, logLevel: 'trace' },
          pools: [{ name: 'whole', sharing: 'whole', anchors }],
          signalling: {
            listen: { host: '127.0.0.1', port },
            url: `ws://127.0.0.1:${port}/mooring`,
            issuers: [{ issuer: 'http://127.0.0.1:9', audience: 'https://mooring.example' }],
          },
        }),
      );
      const [command, ...args] = nodeCommand(MOORING, 'serve', '--config', configFile);
      let log = '';
      server = spawn(command as string, args, { stdio: ['ignore', 'pipe', 'pipe'] });
      const running = server;
      for (const stream of [running.stdout, running.stderr]) {
        stream?.setEncoding('utf8').on('data', (text: string) => {
          log += text;
        });
      }
      await until('it is up', async () => {
        if (running.exitCode !== null) throw new Error(log);
        return log.includes('mooring is up');
      });
      const registry = await openRegistry({ url: redisUrl, redis, log: silent });
      expect((await registry.anchor('a1'))?.pool).toBe('whole');
      await registry.close();
      const pids = [
        running.pid,
        ...readFileSync(`/proc/${running.pid}/task/${running.pid}/children`, 'utf8').trim().split(' '),
      ];
      expect(pids.length).toBeGreaterThan(1);
      for (const pid of pids) {
        expect(readFileSync(`/proc/${pid}/cmdline`, 'utf8')).not.toContain(PASSWORD);
        expect(readFileSync(`/proc/${pid}/environ`, 'utf8')).not.toContain(PASSWORD);
      }
      running.kill('SIGTERM');
      await once(running, 'exit');
      expect(log).not.toContain(PASSWORD);
    } finally {
      server?.kill('SIGKILL');
      await shape.stop();
    }
  },
);
