import { readFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Capture, startCapture } from '../../infra/lab/capture.ts';
import { ipPacketOf } from '../../infra/lab/pcap.ts';
import { startTraffic, type Traffic } from '../../infra/lab/traffic.ts';
import { anchorKeys } from '../../src/registry/keys.ts';
import { monotonicMs } from '../../src/telemetry/clock.ts';
import { eventually } from './fixture/eventually.ts';
import { flowWithPeer } from './fixture/flow.ts';
import { type Harbour, POOLS, startHarbour } from './fixture/harbour.ts';
import { missing } from './fixture/requirements.ts';
import { isRunning, restarted, type ServerStatus, serverStatus } from './fixture/server-process.ts';

/** A claim as short as this runs out during every restart, unless somebody renews it. */
const OWNERSHIP_MS = 800;
/** Memory of its own, KiB; some 12 MiB while all is well. */
const SUPERVISOR_KIB = 32 * 1024;
/** From the moment the process serves again until packets flow again, milliseconds. */
const RESUME_MS = 1_500;

describe.skipIf(missing('the supervisor'))('a relay process under its supervisor', () => {
  let harbour: Harbour;
  let traffic: Traffic;
  /** What the relay's kernel says of ports that nobody has open. */
  let refusals: Capture;

  beforeAll(async () => {
    harbour = await startHarbour({
      name: 'supervisor',
      relays: ['r1'],
      ownershipMs: OWNERSHIP_MS,
      devices: [{ name: 'alice', pool: 'shared', kind: 'rsipsec', delayMs: 5 }],
    });
    const { lab, fleet } = harbour;
    traffic = await startTraffic(lab, [flowWithPeer(harbour, 'alice', 7_001)]);
    const { host } = fleet.relays.get('r1')!;
    const ours = [host.address, POOLS.shared.endpoint, POOLS.whole.endpoint];
    refusals = await startCapture(lab, {
      namespace: host.namespace,
      interface: host.interface,
      name: 'refusals',
      filter: `icmp[icmptype] = icmp-unreach and (src host ${ours.join(' or src host ')})`,
    });
    await traffic.start();
  }, 60_000);
  afterAll(() => harbour?.close());

  it('says who watches it, and how often it was started', async () => {
    const { process: seen } = await serverStatus(harbour);
    expect(seen).toEqual({
      pid: expect.any(Number),
      supervisor: harbour.fleet.relays.get('r1')!.process.pid,
      restarts: 0,
      lastEnd: null,
    });
    expect(seen.pid).not.toBe(seen.supervisor);
    // What is kept for the case that memory runs out must not take much itself.
    const [, kiB] = /^RssAnon:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${seen.supervisor}/status`, 'utf8'))!;
    expect(Number(kiB)).toBeLessThan(SUPERVISOR_KIB);
  });

  it('is started again when it is killed, to the same sessions', async () => {
    const { before, after, killedMs } = await ended((pid) => process.kill(pid, 'SIGKILL'));
    expect(after.process).toMatchObject({ supervisor: before.process.supervisor, lastEnd: 'signal SIGKILL' });
    await resumed(killedMs, 'kill -9 of the relay process');
  });

  it('is ended and started again when it hangs', async () => {
    const { before, after, killedMs } = await ended((pid) => process.kill(pid, 'SIGSTOP'));
    expect(isRunning(before.process.pid)).toBe(false);
    expect(after.process.lastEnd).toBe('signal SIGKILL');
    await resumed(killedMs, 'SIGSTOP of the relay process');
  });

  it('is left alone when it comes back in time', async () => {
    const before = await serverStatus(harbour);
    process.kill(before.process.pid, 'SIGSTOP');
    await new Promise((resolve) => setTimeout(resolve, 700));
    process.kill(before.process.pid, 'SIGCONT');
    await new Promise((resolve) => setTimeout(resolve, 2_000));
    expect((await serverStatus(harbour)).process).toEqual(before.process);
  });

  it('keeps its claims while it is away, longer than it had renewed them itself', async () => {
    const { anchor } = POOLS.shared;
    await ended(async (pid) => {
      const { nowMs, epoch } = await claim(anchor);
      process.kill(pid, 'SIGKILL');
      // What the process itself renewed ends before this; what its successor claims has another epoch.
      const kept = await eventually(
        'kept',
        () => claim(anchor),
        ({ untilMs }) => untilMs > nowMs + OWNERSHIP_MS + 50,
      );
      expect(kept.epoch).toBe(epoch);
    });
  });

  it('finds what was sent to it while it was away: a device that moved meanwhile is there at once', async () => {
    const { alice } = harbour.devices;
    const { killedMs } = await ended(async (pid) => {
      process.kill(pid, 'SIGKILL');
      await alice!.links.wifi0!.cut();
    });
    await resumed(killedMs, 'kill -9 of the relay process and a move');
    await alice!.agent.until((status) => status.path?.link === 'cell0', 'on the other link');
    await alice!.links.wifi0!.up();
    await alice!.agent.until((status) => status.path?.link === 'wifi0', 'back on wifi0');
  });

  it('is replaced without being missed when an operator asks for it', async () => {
    const { after } = await ended((_pid, supervisor) => process.kill(supervisor, 'SIGHUP'));
    expect(after.process.lastEnd).toBe('exit status 0');
  });

  it('was never refused to anybody: its sockets stayed open', async () => {
    await refusals.stop();
    const told = refusals.frames().map(ipPacketOf);
    expect(told.map((packet) => `${packet?.source} to ${packet?.destination}`)).toEqual([]);
  });

  it('ends with its supervisor, whatever became of that', async () => {
    const server = harbour.fleet.relays.get('r1')!;
    const { process: seen } = await serverStatus(harbour);
    process.kill(seen.pid, 'SIGSTOP');
    server.process.expectEnd();
    process.kill(seen.supervisor, 'SIGKILL');
    await server.process.ended;
    await eventually(
      'gone',
      () => isRunning(seen.pid),
      (running) => !running,
    );
    await server.restart();
    const again = await serverStatus(harbour);
    expect(again.process).toMatchObject({ restarts: 0, lastEnd: null });
    // Asked to stop, both end, and well.
    expect(await server.process.stop(10_000)).toEqual({ code: 0, signal: null });
    expect(isRunning(again.process.pid)).toBe(false);
  });

  // --- the steps -------------------------------------------------------------------------------------

  /** Ends the process in some way; resolves when its successor serves. */
  async function ended(
    end: (pid: number, supervisor: number) => unknown,
  ): Promise<{ before: ServerStatus; after: ServerStatus; killedMs: number }> {
    await harbour.devices.alice!.agent.until((status) => status.state === 'bound', 'bound');
    const before = await serverStatus(harbour);
    const killedMs = monotonicMs();
    await end(before.process.pid, before.process.supervisor);
    const after = await restarted(harbour, before.process.restarts + 1);
    expect(after.process.restarts).toBe(before.process.restarts + 1);
    for (const { id, epoch } of before.anchors) {
      const now = after.anchors.find((anchor) => anchor.id === id);
      expect(BigInt(now!.epoch), id).toBe(BigInt(epoch) + 1n);
    }
    return { before, after, killedMs };
  }

  /** As the registry has it, by its own clock. */
  async function claim(anchor: string): Promise<{ nowMs: number; epoch: string; untilMs: number }> {
    const { lab, fleet } = harbour;
    const script =
      "local t = redis.call('TIME') local m = redis.call('HMGET', KEYS[1], 'epoch', 'untilMs') return {t[1] * 1000 + math.floor(t[2] / 1000), m[1], m[2]}";
    const [meta] = anchorKeys(anchor);
    const { stdout } = await lab.run(fleet.core.namespace, [
      ...['redis-cli', '-h', fleet.core.address, 'EVAL', script, '1', meta!],
    ]);
    const [nowMs, epoch, untilMs] = stdout.trim().split('\n');
    return { nowMs: Number(nowMs), epoch: epoch!, untilMs: Number(untilMs) };
  }

  async function resumed(killedMs: number, what: string): Promise<void> {
    const upMs = monotonicMs();
    await new Promise((resolve) => setTimeout(resolve, RESUME_MS));
    const { up, down } = await traffic.measure('alice', { fromMs: killedMs, toMs: monotonicMs() - 100 });
    for (const [direction, { gapMs, gapEndedMs }] of Object.entries({ up, down })) {
      console.info(
        `${what}: ${direction} silent for ${Math.round(gapMs)} ms; it served ${Math.round(upMs - killedMs)} ms after its end`,
      );
      expect(gapEndedMs - upMs, direction).toBeLessThan(RESUME_MS);
    }
  }
});
