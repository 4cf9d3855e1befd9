import { copyFileSync, cpSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { CONTROL_SOCKET } from '../../clients/laptop/agent.ts';
import type { AgentStatus } from '../../clients/laptop/status.ts';
import { MOORING } from '../../infra/lab/fleet.ts';
import { nodeCommand } from '../../infra/lab/node-command.ts';
import { eventually } from './fixture/eventually.ts';
import { type Harbour, type MooredDevice, PEER_ADDRESS, startHarbour } from './fixture/harbour.ts';
import { missing } from './fixture/requirements.ts';

/** A user that owns nothing. */
const NOBODY = 65_534;

describe.skipIf(missing('the agent'))('the agent on a machine', () => {
  let harbour: Harbour;
  let alice: MooredDevice;
  /** The machine without any agent. */
  let before: Machine;
  let talks = 0;

  beforeAll(async () => {
    harbour = await startHarbour({
      name: 'agent',
      relays: ['r1'],
      devices: [
        {
          name: 'alice',
          pool: 'shared',
          kind: 'rsap-ip',
          agent: { routes: [`${PEER_ADDRESS}/32`] },
        },
      ],
    });
    alice = harbour.devices.alice!;
    await alice.agent.process.stop();
    before = await machine();
  }, 60_000);
  afterAll(() => harbour?.close());
  beforeEach(async () => expect(await machine()).toEqual(before));

  it.each(['SIGTERM', 'SIGINT'] as const)(
    'puts back what it changed when it is stopped by %s, and holds the same lease when it starts again',
    async (signal) => {
      await up();
      const { lease } = await alice.agent.status();
      expect(lease).toMatchObject({ ...alice.lease, remainingMs: expect.any(Number) });
      expect(await machine()).not.toEqual(before);
      await carries();
      alice.agent.process.kill(signal);
      expect(await alice.agent.process.ended).toEqual({ code: 0, signal: null });
      expect(await machine()).toEqual(before);
    },
  );

  it('after kill -9 sends nothing of the lease around the tunnel, and goes on with it at the next start', async () => {
    await up();
    const during = await machine();
    // In the middle of a move.
    void alice.agent.use('cell0').catch(() => {});
    await eventually('moving', alice.agent.process.output, (text) => text.includes('"to":"cell0"'), 5_000);
    await alice.agent.crash();
    // The way into the tunnel still stands, with nobody behind it: packets from the leased address go nowhere else.
    const left = await machine();
    expect(left.rules).toEqual(during.rules);
    await up();
    expect(await machine()).toEqual(during);
    const { lease } = await alice.agent.status();
    expect(lease).toMatchObject({ ...alice.lease, remainingMs: expect.any(Number) });
    await carries();
    await alice.agent.process.stop();
  });

  it('after kill -9 has its changes taken back by `mooring restore`; while it runs there is no second agent and no restore', async () => {
    await up();
    const during = await machine();
    for (const command of ['restore', 'up']) {
      const refusal = await failing(command, '--config', alice.agent.configFile);
      expect(refusal).toContain('[ERR_MOORING_ALREADY_RUNNING]');
    }
    expect(await machine()).toEqual(during);
    await alice.agent.crash();
    expect(await machine()).not.toEqual(before);
    expect(await mooring('restore', '--config', alice.agent.configFile)).toMatch(
      /taken back: [1-9]\d* changes/,
    );
    expect(await machine()).toEqual(before);
    expect(await mooring('restore', '--config', alice.agent.configFile)).toContain('taken back: 0 changes');
  });

  it('leaves a network that got slow for the other one without losing a packet, and does not come back at once', async () => {
    await up();
    talks += 1;
    const [here, there] = await Promise.all([alice.udp(talks), harbour.peer.udp(7_000 + talks)]);
    let sent = 0;
    const talk = setInterval(() => {
      sent += 1;
      void here.send(there, `${sent}`);
    }, 50);
    const wifi0 = alice.links.wifi0!;
    try {
      const bothMeasured = ({ links }: AgentStatus) => links.every(({ measured }) => measured?.rttMs != null);
      await alice.agent.until(bothMeasured, 'both measured', 10_000);
      await wifi0.shape({ delayMs: 200 });
      const left = await alice.agent.until(({ path }) => path?.link === 'cell0', 'left', 20_000);
      expect(left.moves.at(-1)).toMatchObject({ from: 'wifi0', to: 'cell0', oldPath: 'alive' });
      await wifi0.shape({ delayMs: 0 });
      const mended = await alice.agent.until(
        ({ links }) => links.some(({ id, measured }) => id === 'wifi0' && measured!.rttMs! < 100),
        'mended',
        20_000,
      );
      expect(mended.path!.link).toBe('cell0');
      expect(mended.links[0]).toMatchObject({ id: 'wifi0', passedOver: true });
    } finally {
      clearInterval(talk);
      await wifi0.shape({ delayMs: 0 });
    }
    const arrived = await there.until((all) => all.length >= sent, 'all of them', 5_000);
    expect(new Set(arrived.map(({ payload }) => `${payload}`)).size).toBe(sent);
    await alice.agent.process.stop();
  });

  it('touches nothing that is not its own', async () => {
    const { lab } = harbour;
    await lab.ip(alice.namespace, ['tuntap add dev mooring mode tun']);
    const foreign = await machine();
    expect(await failing('up', '--config', alice.agent.configFile)).toMatch(
      /tun mooring exists already and is not the agent's; .* \[ERR_MOORING_CONFLICT\]/,
    );
    expect(await machine()).toEqual(foreign);
    await lab.ip(alice.namespace, ['link delete mooring']);
  });

  it('names field, value and remedy of a setting that is wrong, and leaves the machine alone', async () => {
    expect(await failing('up', '--config', variant('wrong', { routes: ['10.0.0.1/8'] }))).toMatch(
      /routes\.0 is "10\.0\.0\.1\/8"; .*host bits zero \[ERR_MOORING_CONFIG\]/,
    );
    expect(await failing('up', '--config', '/nowhere/agent.yaml')).toMatch(
      /\/nowhere\/agent\.yaml: cannot be read; .* \[ERR_MOORING_CONFIG\]/,
    );
  });

  it('ends with a message, and without a trace, when it is refused for good', async () => {
    const stranger = configuration().issuer as object;
    const unknown = variant('stranger', {
      stateDir: harbour.lab.file('stranger'),
      issuer: { ...stranger, clientId: 'nobody' },
    });
    expect(await failing('up', '--config', unknown)).toMatch(
      /token answered 40[01] invalid_client.*check issuer\.clientId.* \[ERR_MOORING_TOKEN\]/,
    );
    expect(await machine()).toEqual(before);

    const nowhere = variant('no-pool', { stateDir: harbour.lab.file('no-pool'), pool: 'nowhere' });
    expect(await failing('up', '--config', nowhere)).toMatch(/nowhere.*\[ERR_MOORING_\w+\]/);
    expect(await machine()).toEqual(before);
  });

  it('waits for an issuer that is away, and can be stopped meanwhile', async () => {
    const { issuer } = configuration();
    const file = variant('no-issuer', {
      stateDir: harbour.lab.file('no-issuer'),
      issuer: { ...(issuer as object), tokenEndpoint: 'https://198.51.100.2:9/token' },
    });
    const agent = await harbour.lab.spawn(alice.namespace, nodeCommand(MOORING, 'up', '--config', file), {
      label: 'agent without issuer',
    });
    await eventually('trying again', agent.output, (text) => text.includes('it is tried again'), 15_000);
    expect(await agent.stop()).toEqual({ code: 0, signal: null });
    expect(await machine()).toEqual(before);
  });

  it('needs no more than the user and the one capability that its systemd unit gives it', async () => {
    const unit = readFileSync(new URL('../../infra/systemd/mooring-device.service', import.meta.url), 'utf8');
    const capabilities = /^AmbientCapabilities=(.*)$/m.exec(unit)![1]!.split(' ');
    expect(capabilities).toEqual(['CAP_NET_ADMIN']);
    expect(unit).toContain(`CapabilityBoundingSet=${capabilities.join(' ')}\n`);
    // The folder of the agent that ran until now: its lease goes on under the other user.
    const own = harbour.lab.file('service');
    cpSync(alice.agent.stateDir, own, { recursive: true });
    const { issuer, signalling } = configuration() as {
      issuer: { privateKeyFile: string; caFile: string };
      signalling: object;
    };
    const readable = { caFile: `${own}/authority.pem` };
    copyFileSync(issuer.caFile, readable.caFile);
    copyFileSync(issuer.privateKeyFile, `${own}/client.json`);
    const file = variant('service', {
      ...{ stateDir: own, killSwitch: true },
      issuer: { ...issuer, ...readable, privateKeyFile: `${own}/client.json` },
      signalling: { ...signalling, ...readable },
    });
    await harbour.lab.run(alice.namespace, ['chown', '-R', `${NOBODY}:${NOBODY}`, own, file]);
    await harbour.lab.run(alice.namespace, ['chmod', 'a+x', harbour.lab.directory]);
    // As udev leaves it to everybody; a machine without udev may not.
    const tun = harbour.lab.file('tun');
    await harbour.lab.run(alice.namespace, ['mknod', '-m', '666', tun, 'c', '10', '200']);
    // The program where that user can read it: a checkout in root's own folder cannot be.
    const checkout = fileURLToPath(new URL('../../', import.meta.url));
    const program = harbour.lab.file('program');
    mkdirSync(program);
    const only = capabilities.map((name) => `+${name.replace('CAP_', '').toLowerCase()}`).join(',');
    const agent = await harbour.lab.spawn(
      alice.namespace,
      [
        ...['sh', '-c', 'mount --bind "$0" /dev/net/tun && mount --bind "$1" "$2" && shift 2 && exec "$@"'],
        ...[tun, checkout, program],
        ...['setpriv', `--reuid=${NOBODY}`, `--regid=${NOBODY}`, '--clear-groups', '--no-new-privs'],
        ...[`--inh-caps=-all,${only}`, `--ambient-caps=-all,${only}`, `--bounding-set=-all,${only}`],
        ...nodeCommand(join(program, relative(checkout, MOORING)), 'up', '--config', file),
      ],
      { label: 'agent as a service' },
    );
    await eventually('bound', agent.output, (text) => text.includes('"msg":"bound"'), 20_000);
    expect(readFileSync(`/proc/${agent.pid}/status`, 'utf8')).toMatch(/^CapEff:\t0{12}1000$/m);
    await carries();
    agent.expectEnd();
    await mooring('down', '--config', file);
    await agent.ended;
    expect(await machine()).toEqual(before);
  });

  it('keeps its secrets to itself, and gives its lease back at `mooring down --free`', async () => {
    await up();
    const { stateDir } = alice.agent;
    const readable = readdirSync(stateDir).filter((name) => {
      const { mode } = statSync(join(stateDir, name));
      // A socket takes who may write to it.
      return (mode & (name === CONTROL_SOCKET ? 0o022 : 0o077)) !== 0;
    });
    expect(readable).toEqual([]);
    expect(statSync(stateDir).mode & 0o077).toBe(0);
    alice.agent.process.expectEnd();
    await mooring('down', '--free', '--config', alice.agent.configFile);
    expect(await machine()).toEqual(before);
    expect(await alice.agent.process.ended).toEqual({ code: 0, signal: null });
    await up();
    expect((await alice.agent.status()).lease!.id).not.toBe(alice.lease.id);
    await alice.agent.process.stop();
  });

  // --- the steps -------------------------------------------------------------------------------------

  async function up(): Promise<void> {
    await alice.agent.restart();
    await alice.agent.until((status) => status.state === 'bound', 'bound', 20_000);
  }

  /** A datagram goes from the leased address to the peer, and one back. */
  async function carries(): Promise<void> {
    talks += 1;
    const [here, there] = await Promise.all([alice.udp(talks), harbour.peer.udp(7_000 + talks)]);
    await here.send(there, 'out');
    const [arrived] = await there.until((all) => all.length > 0, 'a datagram');
    expect(arrived).toMatchObject({ address: alice.lease.address, port: alice.port(talks) });
    await there.send(here, 'back');
    await here.until((all) => all.length > 0, 'the answer');
  }

  interface Machine {
    readonly routes: unknown;
    readonly routes6: unknown;
    readonly rules: unknown;
    readonly rules6: unknown;
    readonly addresses: unknown;
    readonly links: unknown;
    readonly sysctls: string;
  }

  /** Everything of the device's network configuration that an agent could change. */
  async function machine(): Promise<Machine> {
    const ask = async (...args: string[]): Promise<unknown> => {
      const { stdout } = await harbour.lab.run(alice.namespace, ['ip', '-j', ...args]);
      return JSON.parse(stdout || '[]');
    };
    const [routes, routes6, rules, rules6, addresses, links] = await Promise.all([
      ask('route', 'show', 'table', 'all'),
      ask('-6', 'route', 'show', 'table', 'all'),
      ask('rule'),
      ask('-6', 'rule'),
      ask('address'),
      ask('link'),
    ]);
    const { stdout } = await harbour.lab.run(alice.namespace, [
      ...['sysctl', '-e', '-a', '-r', '^net.ipv[46].(conf|ip_forward|ip_nonlocal_bind)'],
    ]);
    return { routes, routes6, rules, rules6, addresses, links, sysctls: stdout };
  }

  function configuration(): Record<string, unknown> {
    return JSON.parse(readFileSync(alice.agent.configFile, 'utf8')) as Record<string, unknown>;
  }

  function variant(name: string, change: object): string {
    const file = harbour.lab.file(`${name}.agent.yaml`);
    writeFileSync(file, JSON.stringify({ ...configuration(), ...change }));
    return file;
  }

  async function mooring(...args: string[]): Promise<string> {
    return harbour.fleet.mooring(alice.namespace, ...args);
  }

  async function failing(...args: string[]): Promise<string> {
    return mooring(...args).then(
      (output) => {
        throw new Error(`mooring ${args.join(' ')} succeeded: ${output}`);
      },
      (error: Error) => error.message,
    );
  }
});
