/** Makes a lab, says so, and stays until it is killed: see lab.test.ts. */
import { createLab } from '../../../infra/lab/lab.ts';
import { createPublicNetwork } from '../../../infra/lab/topology.ts';

const lab = await createLab({ name: 'owner' });
const net = await createPublicNetwork(lab);
const host = await net.host('host', { address: '198.51.100.9' });
// A process that left its group, as daemons do, and one that ignores requests to end.
await lab.spawn(host.namespace, ['setsid', 'sleep', '1000'], { label: 'daemon' });
await lab.spawn(host.namespace, ['sh', '-c', 'trap "" TERM; sleep 1000; sleep 1000'], { label: 'stubborn' });
process.stdout.write(`ready ${lab.id}\n`);
setInterval(() => {}, 1_000);
