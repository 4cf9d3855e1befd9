import { afterAll, expect, it } from 'vitest';
import { createAnnouncer } from '../../../src/relay/announcer.ts';
import type { Log } from '../../../src/telemetry/log.ts';
import { createNamespace, describeAsRoot } from '../linux/own-namespace.ts';

describeAsRoot('announcing an anchor', () => {
  const relay = createNamespace();
  afterAll(relay.close);

  it('on an interface that is down is logged, and serves it all the same', () => {
    const warnings: string[] = [];
    const log = { warn: (_: unknown, text: string) => void warnings.push(text) } as unknown as Log;
    relay.ip('link add pub type veth peer name far');
    const announcer = createAnnouncer({ ...{ interface: 'pub', tun: 'pub' }, announce: 'neighbour', log });
    relay.run(() => announcer.announce({ endpoints: ['198.51.100.5'], prefixes: [] }));
    expect(warnings).toContain('addresses not announced');
    relay.run(() => announcer.withdraw({ endpoints: ['198.51.100.5'], prefixes: [] }));
  });
});
