import { afterAll, expect, it } from 'vitest';
import { openAnnouncements } from '../../../src/linux/announce.ts';
import { listNeighbours } from '../../../src/linux/neighbours.ts';
import { writeSysctl } from '../../../src/linux/sysctl.ts';
import { connect, createNamespace, describeAsRoot, until } from './own-namespace.ts';

function announce(device: string, addresses: readonly string[]): void {
  const announcements = openAnnouncements();
  try {
    announcements.announce(device, addresses);
  } finally {
    announcements.close();
  }
}

describeAsRoot('an announcement', () => {
  const relay = createNamespace();
  const neighbour = createNamespace();
  connect(relay, 'pub', neighbour, 'lan');
  afterAll(() => {
    relay.close();
    neighbour.close();
  });
  const macOf = (namespace: typeof relay, device: string) =>
    (namespace.ip(`-j link show dev ${device}`) as { address: string }[])[0]?.address;
  const known = (address: string) => {
    const found = neighbour.run(listNeighbours).find((one) => one.address === address);
    return found === undefined
      ? undefined
      : Buffer.from(found.mac)
          .toString('hex')
          .replace(/..(?=.)/g, '$&:');
  };

  it.each(['203.0.113.9', '2001:db8::77'])(
    'moves %s in the table of a neighbour that knew it elsewhere',
    async (address) => {
      neighbour.ip(`neigh add ${address} dev lan lladdr 02:00:00:00:00:99 nud stale`);
      expect(known(address)).toBe('02:00:00:00:00:99');
      relay.run(() => announce('pub', [address]));
      await until('the new owner', () => known(address) === macOf(relay, 'pub'));
    },
  );

  it('teaches a neighbour that accepts gratuitous ARP an address that it never heard of', async () => {
    neighbour.run(() => writeSysctl('net/ipv4/conf/lan/arp_accept', '1'));
    neighbour.ip('addr add 203.0.113.1/24 dev lan');
    relay.run(() => announce('pub', ['203.0.113.20']));
    await until('the owner', () => known('203.0.113.20') === macOf(relay, 'pub'));
  });

  it('of a thousand addresses takes a fraction of a second', () => {
    const addresses = Array.from({ length: 1000 }, (_, i) => `10.0.${i >> 8}.${i & 255}`);
    const started = performance.now();
    relay.run(() => announce('pub', addresses));
    expect(performance.now() - started).toBeLessThan(1000);
  });

  it('needs a device with an Ethernet address', () => {
    expect(() => relay.run(() => announce('gone0', ['203.0.113.9']))).toThrow(/gone0.*ENODEV/);
    relay.ip('tuntap add mode tun name bare0');
    expect(() => relay.run(() => announce('bare0', ['203.0.113.9']))).toThrow(/Ethernet/);
  });
});
