import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { withoutNamespaces } from './requirements.ts';

if (withoutNamespaces)
  process.stderr.write(`skipped: the recipe for two devices on one address: ${withoutNamespaces}\n`);

const page = readFileSync(new URL('../../../docs/shared-address.md', import.meta.url), 'utf8');
const recipe = /```sh\n([^`]*)```/.exec(page)?.[1] ?? '';

/** Two systems with one address on a link; the recipe on both; the ports 1024–1087 are here, 1088–1151 there. */
const SCRIPT = `
set -e
ADDRESS=203.0.113.7 DEVICE=t0
apply() { "$@" sh -ec "ADDRESS=$ADDRESS DEVICE=$DEVICE OTHER_PORTS=$PORTS; $RECIPE"; }
mac() { "$@" ip -o link show t0 | grep -o 'ether [0-9a-f:]*' | cut -d' ' -f2; }
unshare --net sleep 30 & OTHER=$!
trap 'kill $OTHER' EXIT
until [ "$(readlink /proc/$OTHER/ns/net)" != "$(readlink /proc/self/ns/net)" ]; do sleep 0.05; done
there="nsenter -t $OTHER -n"
ip link add t0 type veth peer name t0 netns $OTHER
for where in env "$there"; do
  $where ip link set lo up
  $where ip link set t0 up
  $where ip address add $ADDRESS/32 dev t0
done
PORTS=1088-1151 apply env
PORTS=1024-1087 apply $there
# A tunnel has no neighbours; this link has.
ip neigh replace $ADDRESS lladdr $(mac $there) dev t0
$there ip neigh replace $ADDRESS lladdr $(mac env) dev t0
at() { printf 'import socket
def at(port):
  s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(("%s", port)); s.settimeout(5); return s
' $ADDRESS; cat; }
at <<'PY' > "$DIRECTORY/there.py"
s = at(1090)
print('ready', flush=True)
d, f = s.recvfrom(99)
s.sendto(b'answer to ' + d, f)
PY
at <<'PY' > "$DIRECTORY/here.py"
s, own = at(1030), at(1031)
s.sendto(b'question', ('203.0.113.7', 1090)); print(s.recvfrom(99))
s.sendto(b'to myself', ('203.0.113.7', 1031)); print(own.recvfrom(99))
PY
mkfifo "$DIRECTORY/ready"
$there python3 "$DIRECTORY/there.py" > "$DIRECTORY/ready" &
read -r _ < "$DIRECTORY/ready"
python3 "$DIRECTORY/here.py"
`;

it.skipIf(withoutNamespaces)('R47: the recipe lets two devices on one address speak to each other', () => {
  const directory = execFileSync('mktemp', ['-d']).toString().trim();
  try {
    const said = execFileSync('unshare', ['--net', '--kill-child', 'bash', '-c', SCRIPT], {
      env: { ...process.env, RECIPE: recipe, DIRECTORY: directory },
      timeout: 30_000,
      stdio: ['ignore', 'pipe', 'pipe'],
    }).toString();
    expect(said.trim().split('\n')).toEqual([
      "(b'answer to question', ('203.0.113.7', 1090))",
      "(b'to myself', ('203.0.113.7', 1030))",
    ]);
  } finally {
    execFileSync('rm', ['-r', directory]);
  }
});
