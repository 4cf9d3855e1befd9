/**
 * Runs in namespaces of its own (network, mounts): a resolver on loopback that makes addresses up of a prefix, as in a
 * network without IPv4, and what the agent finds out by asking this machine's own resolver library.
 */
import { execFileSync } from 'node:child_process';
import { createSocket } from 'node:dgram';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { discoverNat64, prefixText } from '../../../clients/laptop/nat64.ts';
import { setLink } from '../../../src/linux/links.ts';
import { parseAddress } from '../../../src/protocol/address.ts';

const AAAA = 28;
const asked: string[] = [];

/** The answer to a query with these addresses (RFC 1035 §4.1); none: the name exists, and has no such record. */
function answerTo(query: Buffer, addresses: readonly string[]): Buffer {
  const labels: string[] = [];
  let endOfName = 12;
  for (let length = query[endOfName]!; length > 0; length = query[endOfName]!) {
    labels.push(query.toString('latin1', endOfName + 1, endOfName + 1 + length));
    endOfName += 1 + length;
  }
  const name = labels.join('.');
  const type = query.readUInt16BE(endOfName + 1);
  asked.push(`${name} ${type}`);
  const records = type === AAAA && name === 'ipv4only.arpa' ? addresses : [];
  const head = Buffer.from(query.subarray(0, endOfName + 5));
  // An answer, recursion available, no error; no additional records of the query's.
  head.writeUInt16BE(0x8180, 2);
  head.writeUInt16BE(records.length, 6);
  head.writeUInt32BE(0, 8);
  const body = records.map((address) =>
    Buffer.concat([Buffer.from([0xc0, 12, 0, AAAA, 0, 1, 0, 0, 0, 60, 0, 16]), parseAddress(address)]),
  );
  return Buffer.concat([head, ...body]);
}

const dir = mkdtempSync(join(tmpdir(), 'mooring-nat64-'));
const server = createSocket('udp4');
try {
  setLink('lo', { up: true });
  for (const [path, text] of [
    ['/etc/resolv.conf', 'nameserver 127.0.0.1\noptions timeout:1 attempts:1\n'],
    ['/etc/nsswitch.conf', 'hosts: files dns\n'],
  ] as const) {
    const file = join(dir, path.slice('/etc/'.length));
    writeFileSync(file, text);
    execFileSync('mount', ['--bind', file, path]);
  }
  let addresses: readonly string[] = ['2001:db8:122:344::c000:aa', '2001:db8:122:344::c000:ab'];
  server.on('message', (query, from) => server.send(answerTo(query, addresses), from.port, from.address));
  await new Promise<void>((resolve) => server.bind(53, '127.0.0.1', resolve));
  const found = (await discoverNat64()).map(prefixText);
  addresses = [];
  const without = await discoverNat64();
  server.close();
  const silent = await discoverNat64();
  process.stdout.write(JSON.stringify({ found, without, silent, asked }));
} finally {
  rmSync(dir, { recursive: true, force: true });
}
