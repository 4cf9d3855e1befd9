import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { createAuthority } from '../../../infra/lab/certificates.ts';
import { freePort } from './free-port.ts';

/** Everything through the program: `mooring serve` with no role but admin, and the commands of operators. */
const directory = mkdtempSync(join(tmpdir(), 'mooring-command-'));
const config = join(directory, 'mooring.yaml');
/** Each command is a program that starts: on a busy machine that takes seconds. */
vi.setConfig({ testTimeout: 180_000, hookTimeout: 180_000 });
const MAIN = ['--import', 'tsx', 'src/cli/main.ts'];
let program: ChildProcess;
let url = '';
let credentials: string[] = [];

beforeAll(async () => {
  const authority = await createAuthority({ file: (name) => join(directory, name) });
  const [server, operator] = await Promise.all([
    authority.issue('admin.test', ['127.0.0.1']),
    authority.issue('operator:ann'),
  ]);
  const port = await freePort();
  url = `https://127.0.0.1:${port}`;
  credentials = [
    '--cert-file',
    operator.certFile,
    '--key-file',
    operator.keyFile,
    '--ca-file',
    authority.certFile,
  ];
  const settings = {
    dataDir: join(directory, 'data'),
    admin: { listen: { port }, url, tls: { ...server, operatorCaFile: authority.certFile } },
    pools: [
      {
        name: 'shared',
        sharing: 'shared',
        anchors: [{ id: 'a1', home: 'r1', endpoints: ['203.0.113.1'], prefixes: ['198.51.100.0/30'] }],
      },
    ],
  };
  writeFileSync(config, JSON.stringify(settings));
  program = spawn(process.execPath, [...MAIN, 'serve', '--config', config], {
    env: { ...process.env, REDIS_URL: '' },
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  await new Promise<void>((resolve, reject) => {
    let said = '';
    program.stderr?.on('data', (chunk) => {
      said += chunk;
      if (said.includes('mooring is up')) resolve();
    });
    program.on('exit', () => reject(new Error(said)));
  });
});
afterAll(async () => {
  const ended = once(program, 'exit');
  program.kill('SIGTERM');
  await ended;
  rmSync(directory, { recursive: true, force: true });
});

interface Said {
  readonly status: number;
  readonly out: string;
  readonly error: string;
}

function mooring(...args: readonly string[]): Promise<Said> {
  return new Promise((resolve) => {
    execFile(process.execPath, [...MAIN, ...args], (failure, out, error) =>
      resolve({ status: failure === null ? 0 : Number(failure.code), out, error }),
    );
  });
}
const local = (...args: readonly string[]) => mooring(...args, '--config', config);

test('an operator on this machine looks at pools and changes them', async () => {
  expect((await local('pool', 'list')).out).toMatch(/^POOL +SHARING.*\nshared +shared +1 +0 /);
  const grown = await local(
    'pool',
    'grow',
    'shared',
    '--anchor',
    'a1',
    '--prefix',
    '198.51.100.16/30',
    '--json',
  );
  expect(JSON.parse(grown.out).anchors[0].prefixes).toEqual(['198.51.100.0/30', '198.51.100.16/30']);
  const shrunk = await local('pool', 'shrink', 'shared', '--prefix', '198.51.100.16/30', '--json');
  expect(JSON.parse(shrunk.out).anchors[0].prefixes).toEqual(['198.51.100.0/30']);
});

test('one elsewhere shows a certificate, and without it is told what is missing', async () => {
  const shown = await mooring('anchor', 'show', 'a1', '--url', url, ...credentials, '--json');
  expect(JSON.parse(shown.out)).toMatchObject({ id: 'a1', owner: null });
  const stranger = await mooring('anchor', 'list', '--url', url, ...credentials.slice(4));
  expect(stranger).toMatchObject({ status: 1, out: '' });
  expect(stranger.error).toContain('ERR_MOORING_UNAUTHENTICATED');
});

test('what is refused, misused or absent has its exit status and its words', async () => {
  const growing = join(directory, 'growing.yaml');
  writeFileSync(growing, 'a: &a [1]\nname: [*a]\n');
  const [none, ownerless, misused, help, odd, unknown, aliased, missing] = await Promise.all([
    local('lease', 'show', `a1.${'x'.repeat(22)}`),
    local('anchor', 'handover', 'a1', '--to', 'r2'),
    local('pool', 'inflate', 'shared'),
    mooring('lease', '--help'),
    mooring('constructor', 'list'),
    local('serve', '--nonsense'),
    local('pool', 'add', '--file', growing),
    local('pool', 'add', '--file', join(directory, 'no.yaml')),
  ]);
  expect(none).toMatchObject({ status: 1, out: '' });
  expect(none.error).toMatch(/^mooring: lease a1\.x+: there is none .* \[ERR_MOORING_NO_LEASE\]\n$/);
  expect(ownerless.error).toContain('ERR_MOORING_NO_OWNER');
  expect(misused.status).toBe(2);
  expect(misused.error).toContain('mooring pool grow POOL');
  expect(help.out).toContain('mooring lease find ADDRESS');
  for (const { status, error } of [odd, unknown]) {
    expect(status).toBe(2);
    expect(error).toMatch(/^mooring: Un[a-z]+ .*\n\nmooring: leases of/);
  }
  for (const [{ status, error }, file] of [
    [aliased, 'growing.yaml'],
    [missing, 'no.yaml'],
  ] as const) {
    expect(status).toBe(1);
    expect(error).toMatch(new RegExp(`^mooring: \\S+${file}: .* \\[ERR_MOORING_CONFIG\\]\\n$`));
  }
  expect(aliased.error).toContain('Alias resolution is disabled');
});

test('a configuration that is wrong replaces nothing, when an operator asks for that', async () => {
  const right = readFileSync(config);
  const said = new Promise<string>((resolve) => {
    let text = '';
    program.stderr?.on('data', (chunk) => {
      text += chunk;
      if (text.includes('is not replaced')) resolve(text);
    });
  });
  writeFileSync(config, 'pools: [');
  program.kill('SIGHUP');
  expect(await said).toContain('is not YAML');
  writeFileSync(config, right);
  expect((await local('pool', 'list')).status).toBe(0);
});
