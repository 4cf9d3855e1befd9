/** A UDP socket with a receive buffer beyond the machine's limit: a probe that is not scheduled for a while loses nothing. */
import dgram from 'node:dgram';
import { allocate, check, libc, setSocketOption } from '../../src/linux/libc.ts';

const AF_INET = 2;
const SOCK_DGRAM = 2;
const SOCK_NONBLOCK_CLOEXEC = 0x80800;
const SOL_SOCKET = 1;
/** Like SO_RCVBUF, but root may exceed net.core.rmem_max. */
const SO_RCVBUFFORCE = 33;
/** Some 5,000 small packets: 3 s of traffic at 1,500 packets/s. */
const RECEIVE_BUFFER_OCTETS = 4 << 20;

/** @returns a socket bound to an IPv4 address and port */
export async function openProbeSocket(address: string, port: number): Promise<dgram.Socket> {
  const object = `probe socket ${address}:${port}`;
  const fd = check('socket', object, libc.socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK_CLOEXEC, 0));
  setSocketOption(fd, SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BUFFER_OCTETS, object);
  const name = allocate(16);
  name[0] = AF_INET;
  name.set([port >> 8, port & 0xff, ...address.split('.').map(Number)], 2);
  check('bind', object, libc.bind(fd, name, name.length));
  const socket = dgram.createSocket('udp4');
  await new Promise<void>((resolve, reject) => {
    socket.once('error', reject);
    socket.bind({ fd }, () => {
      socket.off('error', reject);
      resolve();
    });
  });
  return socket;
}
