/** Program: sends every datagram back, and tells on descriptor 3 whom they came from. Started with address and port. */
import dgram from 'node:dgram';
import { once } from 'node:events';
import { serve } from '../lab/control-channel.ts';

const [address = '', port = ''] = process.argv.slice(2);
const sources = new Set<string>();
const socket = dgram.createSocket('udp4');
socket.on('message', (message, from) => {
  sources.add(`${from.address} ${from.port}`);
  socket.send(message, from.port, from.address);
});
socket.bind(Number(port), address);
await once(socket, 'listening');

/** `ADDRESS PORT` of each. */
serve<{ readonly op: 'sources' }>(() => [...sources]);
