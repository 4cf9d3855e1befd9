import { spawn, spawnSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { afterEach, describe, expect, it } from 'vitest';
import { cleanStaleLabs, createLab, type Lab } from '../../../infra/lab/lab.ts';
import { createPublicNetwork } from '../../../infra/lab/topology.ts';
import { withoutRoot } from './requirements.ts';

/** Everything on this machine that bears the lab's name. */
function traces(id: string): string[] {
  const namespaces = existsSync('/run/netns') ? readdirSync('/run/netns') : [];
  const records = existsSync('/run/mooring-lab') ? readdirSync('/run/mooring-lab') : [];
  const mounts = readFileSync('/proc/mounts', 'utf8').split('\n');
  const routes = spawnSync('ip', ['route', 'show', 'table', 'all'], { encoding: 'utf8' }).stdout.split('\n');
  const processes = readdirSync('/proc').filter((entry) => {
    try {
      return /^\d+$/.test(entry) && readFileSync(`/proc/${entry}/cmdline`, 'utf8').includes(`${id}-`);
    } catch {
      return false;
    }
  });
  const named = [
    ...namespaces,
    ...records,
    ...readdirSync('/tmp'),
    ...readdirSync('/dev/shm'),
    ...mounts,
    ...routes,
  ];
  return [...named.filter((name) => name.includes(id)), ...processes];
}

const labs: Lab[] = [];
async function openLab(): Promise<Lab> {
  const lab = await createLab({ name: 'test' });
  labs.push(lab);
  return lab;
}
afterEach(async () => {
  await Promise.all(labs.splice(0).map((lab) => lab.close()));
});

/** A process that makes a lab with a running server, prints its id, and stays. */
const OWNER = fileURLToPath(new URL('lab-owner.ts', import.meta.url));

async function startOwner() {
  const tsx = pathToFileURL(createRequire(import.meta.url).resolve('tsx')).href;
  const owner = spawn(process.execPath, ['--import', tsx, OWNER], { stdio: ['ignore', 'pipe', 'inherit'] });
  const ended = new Promise<number | null>((resolve) => owner.once('exit', resolve));
  const id = await new Promise<string>((resolve, reject) => {
    owner.stdout.setEncoding('utf8').on('data', (text: string) => {
      const found = /ready (\w+)/.exec(text)?.[1];
      if (found) resolve(found);
    });
    owner.once('exit', () => reject(new Error('the owner ended before its lab was ready')));
  });
  return { owner, ended, id };
}

describe.skipIf(withoutRoot)('a lab', () => {
  it('leaves nothing behind when it is closed', async () => {
    const lab = await openLab();
    const net = await createPublicNetwork(lab);
    const wifi = await net.accessNetwork('wifi', { kind: 'nat-preserving' });
    const phone = await net.device('phone');
    await phone.attach(wifi, { interface: 'wifi0', metric: 100 });
    expect(traces(lab.id).length).toBeGreaterThan(5);
    await lab.close();
    expect(traces(lab.id)).toEqual([]);
  });

  it('does not disturb another lab of the same shape', async () => {
    const both = await Promise.all([openLab(), openLab()]);
    const networks = await Promise.all(both.map((one) => createPublicNetwork(one)));
    const hosts = await Promise.all(networks.map((net) => net.host('peer', { address: '198.51.100.20' })));
    await both[0].close();
    const { stdout } = await both[1].run(hosts[1]!.namespace, ['ip', '-4', 'route']);
    expect(stdout).toContain('198.51.100.0/24 dev pub0');
    expect(cleanStaleLabs()).not.toContain(both[1].id);
    expect(traces(both[1].id).length).toBeGreaterThan(3);
  });

  it('is removed by the next run after SIGKILL of its owner', { timeout: 30_000 }, async () => {
    const { owner, ended, id } = await startOwner();
    expect(traces(id).length).toBeGreaterThan(3);
    owner.kill('SIGKILL');
    await ended;
    // Another suite may be cleaning at the same time: what counts is that nothing is left.
    cleanStaleLabs();
    expect(traces(id)).toEqual([]);
  });

  it.each([
    ['SIGINT', 130],
    ['SIGTERM', 143],
  ] as const)('is removed at once on %s of its owner', { timeout: 30_000 }, async (signal, status) => {
    const { owner, ended, id } = await startOwner();
    owner.kill(signal);
    expect(await ended).toBe(status);
    expect(traces(id)).toEqual([]);
  });

  it('fails with the log of a process that ends unexpectedly', async () => {
    const lab = await openLab();
    const namespace = await lab.namespace('a');
    await lab.spawn(namespace, ['sh', '-c', 'echo the reason >&2; exit 3'], { label: 'fragile' });
    await expect(lab.failure).rejects.toThrow(/fragile .* ended with status 3.*\nthe reason/s);
  });

  it('does not mind the end of a process that it stopped itself', async () => {
    const lab = await openLab();
    const namespace = await lab.namespace('a');
    const sleeper = await lab.spawn(namespace, ['sleep', '1000']);
    expect(await sleeper.stop()).toEqual({ code: null, signal: 'SIGTERM' });
    const undisturbed = Promise.resolve('fine');
    expect(await Promise.race([lab.failure, undisturbed])).toBe('fine');
  });

  it('names the command and its complaint when one fails', async () => {
    const lab = await openLab();
    const namespace = await lab.namespace('a');
    await expect(lab.run(namespace, ['ip', 'link', 'show', 'dev', 'absent'])).rejects.toThrow(
      /ip link show dev absent failed: .*absent/,
    );
  });
});
