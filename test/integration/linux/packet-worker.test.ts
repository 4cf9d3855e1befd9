import { execFileSync } from 'node:child_process';
import { afterEach, describe, expect, it } from 'vitest';
import { type PacketWorker, startPacketWorker, workerModule } from '../../../src/linux/packet-worker.ts';
import { openUdp } from '../../../src/linux/udp.ts';
import { socketAddress } from '../../../src/protocol/address.ts';
import { until } from './own-namespace.ts';

const ECHO = workerModule('./echo-thread', import.meta.url);

describe('a packet worker', () => {
  const running: PacketWorker[] = [];
  afterEach(async () => {
    for (const worker of running.splice(0)) await worker.stop();
  });

  const start = async () => {
    const messages: unknown[] = [];
    const ends: (Error | null)[] = [];
    const worker = startPacketWorker({
      url: ECHO,
      settings: { greeting: 'ahoy' },
      onMessage: (message) => messages.push(message),
      onExit: (error) => ends.push(error),
    });
    running.push(worker);
    await until('its greeting', () => messages.length > 0, 20_000);
    const { port } = messages[0] as { port: number };
    return { worker, messages, ends, port };
  };

  it('gets its settings, answers messages in order, and wakes for each', async () => {
    const { worker, messages } = await start();
    expect(messages).toEqual([{ greeting: 'ahoy', port: expect.any(Number) }]);
    for (let i = 0; i < 1000; i += 1) worker.post(i);
    await until('a thousand answers', () => messages.length === 1001, 5000);
    expect(messages.slice(1)).toEqual(Array.from({ length: 1000 }, (_, i) => i));
    // One by one: each has to end a wait of its own.
    for (let i = 0; i < 50; i += 1) {
      worker.post(i);
      await until(`answer ${i}`, () => messages.length === 1002 + i, 500);
    }
  });

  it('moves packets and messages at the same time', async () => {
    const { worker, messages, port } = await start();
    const client = openUdp({ family: 4, port: 0 });
    const to = socketAddress('127.0.0.1', port);
    let back = 0;
    for (let round = 0; round < 50; round += 1) {
      for (let i = 0; i < 20; i += 1) client.queue(to, Uint8Array.of(round, i), 0, 2);
      client.flush();
      worker.post(round);
      await until('the echoes', () => {
        back += client.receive();
        return back === (round + 1) * 20 && messages.length === round + 2;
      });
    }
    client.close();
  });

  it('leaves its loop and cleans up when stopped; messages after that go nowhere', async () => {
    const { worker, messages, ends } = await start();
    worker.post('last');
    await worker.stop();
    expect(messages.slice(1)).toEqual(['last', 'cleaned up']);
    expect(ends).toEqual([null]);
    worker.post('too late');
    await worker.stop();
    expect(ends).toEqual([null]);
  });

  it('reports the error that ended it, once', async () => {
    const { worker, ends } = await start();
    worker.post('fail');
    await until('its end', () => ends.length > 0, 5000);
    expect(ends).toEqual([expect.objectContaining({ message: 'told to fail' })]);
    await worker.stop();
    expect(ends).toHaveLength(1);
  });

  it('is ended by force when it hangs', async () => {
    const { worker, ends } = await start();
    worker.post('hang');
    await worker.stop();
    expect(ends).toEqual([null]);
  }, 20_000);

  it('does not hold up the exit of the process although it waits in the kernel', () => {
    const modules = new URL('../../../src/linux/packet-worker.ts', import.meta.url).href;
    const script = `import { startPacketWorker } from ${JSON.stringify(modules)};
      startPacketWorker({ url: new URL(${JSON.stringify(ECHO.href)}), settings: {}, onMessage() {
        const started = Date.now();
        process.on('exit', () => process.stdout.write(String(started)));
        process.exit(0);
      }});`;
    const started = execFileSync(process.execPath, ['--import', 'tsx', '--input-type=module', '-e', script], {
      timeout: 30_000,
      encoding: 'utf8',
    });
    // Half of the longest wait in the kernel: nothing but the wake-up at exit can end it sooner.
    expect(Date.now() - Number(started)).toBeLessThan(5_000);
  });
});
