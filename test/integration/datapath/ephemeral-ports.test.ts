import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { withoutNamespaces } from './requirements.ts';

if (withoutNamespaces) process.stderr.write(`skipped: ports of the block alone: ${withoutNamespaces}\n`);

const page = readFileSync(new URL('../../../docs/shared-address.md', import.meta.url), 'utf8');
const [recipe = ''] = /^sysctl net\.ipv4\.ip_local_port_range=.*$/m.exec(page) ?? [];

/** Opens one socket more than the block has ports, towards one peer, and prints what ports they got. */
const SCRIPT = `
import socket
ports, refused = [], None
sockets = []
for n in range(17):
  s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
  sockets.append(s)
  try:
    s.bind(('203.0.113.7', 0))
    ports.append(s.getsockname()[1])
  except OSError as error:
    refused = (n, error.errno)
print(sorted(ports), refused)
`;

describe.skipIf(withoutNamespaces)('a system that has a share and nothing else to do', () => {
  it('R33: draws its ports from the block alone, and fails at once when they are used up', () => {
    expect(recipe).toContain('1024 2047');
    const narrow = recipe.replace('1024 2047', '1024 1039');
    const shell = `ip link set lo up && ip address add 203.0.113.7/32 dev lo && ${narrow} >/dev/null && exec python3 -c "$SCRIPT"`;
    const text = execFileSync('unshare', ['--net', 'sh', '-ec', shell], {
      env: { ...process.env, SCRIPT },
      encoding: 'utf8',
      timeout: 20_000,
    });
    const [, ports = '', at = '', errno = ''] = /^\[(.*)\] \((\d+), (\d+)\)$/.exec(text.trim()) ?? [];
    expect(ports.split(', ').map(Number)).toEqual(Array.from({ length: 16 }, (_, n) => 1024 + n));
    // EADDRINUSE: none left.
    expect([at, errno]).toEqual(['16', '98']);
  });
});
