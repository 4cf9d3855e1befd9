import { runPacketLoop } from '../../../src/linux/packet-loop.ts';
import { packetWorkerData } from '../../../src/linux/packet-worker.ts';
import { openUdp } from '../../../src/linux/udp.ts';

/** A packet worker that sends every datagram back, echoes messages, and fails when told to. */
const { port, wakeupFd, settings } = packetWorkerData<{ readonly greeting: string }>();
const socket = openUdp({ family: 4, port: 0, address: '127.0.0.1' });
port.postMessage({ greeting: settings.greeting, port: socket.localPort });
runPacketLoop({
  wakeupFd,
  port,
  onMessage(message) {
    if (message === 'fail') throw new Error('told to fail');
    if (message === 'hang') for (;;);
    port.postMessage(message);
  },
  sources: [
    [
      socket.fd,
      () => {
        const count = socket.receive();
        for (let i = 0; i < count; i += 1) {
          socket.queue(socket.source(i), socket.buffer, socket.at(i), socket.length(i));
        }
      },
    ],
  ],
  nextDueMs: () => Number.POSITIVE_INFINITY,
  onTick() {},
  afterBatch: () => socket.flush(),
});
socket.close();
port.postMessage('cleaned up');
