/**
 * Runs in namespaces of its own (network, mounts), with "the internet" in another one behind a veth: an agent of one form
 * is killed behind each of its steps. Prints what the machine looked like and whom it reached, then, when the agent
 * had started again, and when its changes were taken back.
 */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { createSocket, type Socket } from 'node:dgram';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { MachineChanges } from '../../../clients/laptop/machine-changes.ts';
import { formerFile } from '../../../clients/laptop/replaced-file.ts';
import { StateDir } from '../../../clients/laptop/state-dir.ts';
import { listAddresses } from '../../../src/linux/addresses.ts';
import { listLinks, setLink } from '../../../src/linux/links.ts';
import { listRoutes } from '../../../src/linux/routes.ts';
import { listRules } from '../../../src/linux/rules.ts';
import { readSysctl } from '../../../src/linux/sysctl.ts';
import { openTap } from '../../../src/linux/tun.ts';
import {
  ADDRESS,
  CONTROL,
  FORMS,
  type FormName,
  leased,
  live,
  type Step,
  toldSystem,
} from './killed-life.ts';
import { haveOwnEtc } from './own-etc.ts';

const [form, agentProgram] = process.argv.slice(2) as [FormName, string];
const INTERNET = '203.0.113.9';
const RESOLVERS = 'nameserver 192.0.2.53\n';

const run = (...args: string[]) =>
  execFileSync(args[0]!, args.slice(1), { stdio: ['ignore', 'pipe', 'pipe'], timeout: 20_000 }).toString();

const dir = mkdtempSync(join(tmpdir(), 'mooring-killed-'));
const holder = spawn('unshare', ['--net', 'sleep', '120'], { stdio: 'ignore' });
const there = (...args: string[]) => ['nsenter', '-t', String(holder.pid), '-n', ...args];

/** Answers each datagram with all that it was sent so far. */
const ECHO = `
const heard = [];
const socket = require('node:dgram').createSocket('udp4');
socket.on('message', (text, from) => { heard.push(String(text)); socket.send(JSON.stringify(heard), from.port, from.address); });
socket.bind(7, '${INTERNET}', () => console.log('open'));
`;

async function connectToInternet(): Promise<ChildProcess> {
  for (
    let tries = 0;
    run('readlink', '/proc/self/ns/net') === run(...there('readlink', '/proc/self/ns/net'));
    tries += 1
  ) {
    if (tries > 500) throw new Error('no second namespace');
    await pause(10);
  }
  run('ip', 'link', 'add', 'wifi0', 'type', 'veth', 'peer', 'name', 'isp0', 'netns', String(holder.pid));
  run('ip', 'address', 'add', '192.0.2.10/24', 'dev', 'wifi0');
  run('ip', 'link', 'set', 'wifi0', 'up');
  for (const change of [
    'address add 192.0.2.1/24 dev isp0',
    `address add ${INTERNET}/32 dev lo`,
    'link set lo up',
    'link set isp0 up',
  ]) {
    run(...there('ip', ...change.split(' ')));
  }
  run('ip', 'route', 'add', 'default', 'via', '192.0.2.1');
  const echo = spawn(...split(there(process.execPath, '-e', ECHO)), { stdio: ['ignore', 'pipe', 'inherit'] });
  await new Promise((resolve) => echo.stdout!.once('data', resolve));
  return echo;
}

const split = ([command, ...args]: string[]): [string, string[]] => [command!, args];
const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

let words = 0;

/** Says a word towards the internet as any program would, and does not wait for more. */
async function say(): Promise<string> {
  words += 1;
  const word = `word ${words}`;
  const socket = createSocket('udp4');
  await send(socket, word);
  socket.close();
  return word;
}

/** What the internet has heard until now; null when it does not answer. */
async function heard(): Promise<string[] | null> {
  const socket = createSocket('udp4');
  const answered = new Promise<string[]>((resolve) =>
    socket.once('message', (text) => resolve(JSON.parse(String(text)) as string[])),
  );
  try {
    // Where nothing is wrong the first word arrives: patience is for machines that stall.
    for (let tries = 0; tries < 50; tries += 1) {
      await send(socket, 'heard?');
      const answer = await Promise.race([answered, pause(100)]);
      if (Array.isArray(answer)) return answer;
    }
    return null;
  } finally {
    socket.close();
  }
}

function send(socket: Socket, text: string): Promise<void> {
  // What a firewall or a route refuses is an error of the call.
  return new Promise((resolve) => socket.send(text, 7, INTERNET, () => resolve()));
}

/** Everything of this machine that an agent changes; interfaces by name, as the TUN is another one each time. */
function machine(): string {
  const links = listLinks();
  const nameOf = (ifindex: number) => links.find((link) => link.ifindex === ifindex)?.name;
  return JSON.stringify({
    links: links.map(({ name, up, mtu }) => ({ name, up, mtu })),
    addresses: listAddresses().map(({ address, bits, ifindex }) => ({ address, bits, on: nameOf(ifindex) })),
    routes: listRoutes()
      // Link-local and multicast ones of IPv6 come when the kernel has the time.
      .filter(({ destination }) => !/^f[ef]/.test(destination))
      .map((route) => ({ ...route, hops: route.hops.map(({ ifindex, via }) => [nameOf(ifindex), via]) })),
    // Those of one priority stand in the order in which they came.
    rules: listRules()
      .map((rule) => JSON.stringify(rule))
      .sort(),
    arpIgnore: readSysctl('net/ipv4/conf/all/arp_ignore'),
    forwarding: readSysctl('net/ipv4/conf/lan0/forwarding'),
    firewall: run('nft', 'list', 'ruleset'),
    resolvers: readFileSync('/etc/resolv.conf', 'utf8'),
    charon: [formerFile('/run/charon.conf'), formerFile('/run/charon.conf.mooring')],
  });
}

/** An agent that is ready to begin its life, and to be killed behind that step of it. */
function ready(step: number) {
  const stateDir = join(dir, `killed-${step}`);
  const agent = spawn(process.execPath, [agentProgram, form, stateDir, String(step)], {
    stdio: ['pipe', 'inherit', 'inherit'],
  });
  const ended = new Promise<string | null>((resolve) =>
    agent.once('exit', (_code, signal) => resolve(signal)),
  );
  return {
    stateDir,
    async live(): Promise<string | null> {
      agent.stdin.end('\n');
      return ended;
    },
  };
}

class Abort extends Error {}

/** The same life in this process, ended by an exception; then what `mooring restore` does, cut short and begun again. */
function restored(step: number): string {
  const stateDir = join(dir, `aborted-${step}`);
  const until = (last: number) => {
    let steps = 0;
    return () => {
      steps += 1;
      if (steps === last) throw new Abort();
    };
  };
  const aborted = (begin: () => void): void => {
    try {
      begin();
    } catch (error) {
      // A change that cannot be taken back is reported by name.
      if (!(error instanceof Abort) && !/not taken back/.test((error as Error).message)) throw error;
    }
  };
  aborted(() => live(form, stateDir, until(step)));
  const state = () => new StateDir(stateDir);
  aborted(() => new MachineChanges(FORMS[form], state(), toldSystem(until(1 + (step % 7)))).end(true));
  new MachineChanges(FORMS[form], state()).end(true);
  return machine();
}

async function killed(step: number, agent: ReturnType<typeof ready>) {
  const signal = await agent.live();
  const leaks = [await say()];
  const next = new MachineChanges(FORMS[form], new StateDir(agent.stateDir));
  next.begin(CONTROL);
  leaks.push(await say());
  next.settle(leased(ADDRESS));
  leaks.push(await say());
  const leasedAgain = machine();
  next.end(true);
  const afterEnd = machine();
  const inTheEnd = await heard();
  const passed = leaks.map((word) => inTheEnd?.includes(word) ?? null);
  return {
    signal,
    passed: { whenDead: passed[0], atStart: passed[1], leasedAgain: passed[2] },
    leasedAgain,
    afterEnd,
    reachedInTheEnd: inTheEnd !== null,
    restored: restored(step),
  };
}

try {
  const resolvConf = join(dir, 'resolv.conf');
  writeFileSync(resolvConf, RESOLVERS);
  haveOwnEtc(dir);
  execFileSync('mount', ['--bind', resolvConf, '/etc/resolv.conf']);
  execFileSync('mount', ['-t', 'tmpfs', 'tmpfs', '/run']);
  setLink('lo', { up: true });
  const lan = openTap({ name: 'lan0', mtu: 1500 });
  const echo = await connectToInternet();
  try {
    // A life that nothing cuts short: its steps are where the others are killed.
    const whole = join(dir, 'whole');
    const steps: (Step & { readonly left: string })[] = [];
    const before = machine();
    let held = '';
    live(form, whole, (step) => {
      const now = machine();
      if (step.stage === 'lease') held = now;
      steps.push({ ...step, left: now + (new StateDir(whole).read('changes.jsonl') ?? '') });
    });
    new MachineChanges(FORMS[form], new StateDir(whole)).end(true);
    const afterWhole = machine();
    // What was made sure of and stood already leaves nothing else behind than the step before.
    const deadly = [...steps.keys()].filter((at) => steps[at]!.left !== steps[at - 1]?.left);
    const results = [];
    let next = ready(deadly[0]! + 1);
    for (const [i, at] of deadly.entries()) {
      const agent = next;
      const following = deadly[i + 1];
      // The next process comes up while this one's remains are looked at.
      if (following !== undefined) next = ready(following + 1);
      const { stage, did } = steps[at]!;
      results.push({ stage, did, ...(await killed(at + 1, agent)) });
    }
    process.stdout.write(JSON.stringify({ before, afterWhole, held, results }));
  } finally {
    echo.kill();
    lan.close();
  }
} finally {
  holder.kill();
  execFileSync('umount', ['/etc/resolv.conf']);
  rmSync(dir, { recursive: true, force: true });
}
