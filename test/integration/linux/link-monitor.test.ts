import { execFileSync } from 'node:child_process';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { ensureAddress, removeAddress } from '../../../src/linux/addresses.ts';
import { type LinkSnapshot, type LinkState, watchLinks } from '../../../src/linux/link-monitor.ts';
import { setLink } from '../../../src/linux/links.ts';
import { ensureRoute } from '../../../src/linux/routes.ts';
import { createNamespace, describeAsRoot, until } from './own-namespace.ts';

const PROMPT_MS = 100;

describeAsRoot('a watch on links', () => {
  const namespace = createNamespace();
  const seen: LinkSnapshot[] = [];
  const now = (): LinkState | undefined => seen.at(-1)?.links.find((link) => link.name === 'va');
  let watch: { close(): void };

  beforeAll(async () => {
    namespace.ip('link add va type veth peer name vb');
    namespace.stay();
    setLink('vb', { up: true });
    setLink('va', { up: true });
    watch = watchLinks((snapshot) => seen.push(snapshot));
    await until('the first report', () => seen.length > 0);
  });
  afterAll(() => {
    watch.close();
    namespace.close();
  });

  it('begins with how things are', () => {
    expect(now()).toMatchObject({ up: true, carrier: true, kind: 'veth' });
  });

  it('sees carrier go and come within 100 ms', async () => {
    setLink('vb', { up: false });
    await until('carrier lost', () => now()?.carrier === false, PROMPT_MS);
    expect(now()).toMatchObject({ up: true });
    setLink('vb', { up: true });
    await until('carrier back', () => now()?.carrier === true, PROMPT_MS);
  });

  it('sees an interface taken down and up within 100 ms', async () => {
    setLink('va', { up: false });
    await until('down', () => now()?.up === false, PROMPT_MS);
    setLink('va', { up: true });
    await until('up', () => now()?.up === true && now()?.carrier === true, PROMPT_MS);
  });

  it.each(['192.0.2.1/24', '2001:db8::1/64'])('sees %s come and go within 100 ms', async (address) => {
    const has = () => now()?.addresses.some((one) => `${one.address}/${one.bits}` === address);
    ensureAddress('va', address);
    await until('the address', () => has() === true, PROMPT_MS);
    removeAddress('va', address);
    await until('no address', () => has() === false, PROMPT_MS);
  });

  it('names the gateways of each link, best first', async () => {
    ensureAddress('va', '192.0.2.1/24');
    ensureAddress('va', '2001:db8::1/64');
    ensureRoute({ destination: '0.0.0.0/0', via: '192.0.2.254', metric: 600 });
    ensureRoute({ destination: '0.0.0.0/0', via: '192.0.2.253', metric: 100 });
    ensureRoute({ destination: '::/0', via: '2001:db8::fe', device: 'va', metric: 700 });
    await until('three gateways', () => now()?.gateways.length === 3, PROMPT_MS);
    expect(now()?.gateways.map((one) => one.via)).toEqual(['192.0.2.253', '192.0.2.254', '2001:db8::fe']);
    setLink('va', { up: false });
    await until('no gateway', () => now()?.gateways.length === 0, PROMPT_MS);
    setLink('va', { up: true });
  });

  it('makes one report of many changes, and none of no change', async () => {
    await until('quiet', () => now()?.carrier === true, PROMPT_MS);
    const before = seen.length;
    for (let i = 10; i < 60; i += 1) ensureAddress('va', `192.0.2.${i}/24`);
    const has = () => now()?.addresses.filter((one) => one.address.startsWith('192.0.2.')).length;
    await until('all fifty', () => (has() ?? 0) >= 50, PROMPT_MS * 5);
    expect(seen.length - before).toBeLessThan(10);
    expect(new Set(seen.map((snapshot) => JSON.stringify(snapshot))).size).toBeGreaterThan(1);
    for (const [i, snapshot] of seen.entries()) {
      if (i > 0) expect(snapshot).not.toEqual(seen[i - 1]);
    }
  });

  it('reports nothing after close, and survives changes that come then', async () => {
    const other: LinkSnapshot[] = [];
    const closing = watchLinks((snapshot) => other.push(snapshot));
    await until('its first report', () => other.length > 0);
    closing.close();
    closing.close();
    const before = other.length;
    const reports = seen.length;
    setLink('va', { mtu: 1400 });
    await until('the other watch sees it', () => seen.length > reports, PROMPT_MS);
    expect(other.length).toBe(before);
  });

  it('does not keep the process alive', () => {
    const script = `import { watchLinks } from ${JSON.stringify(new URL('../../../src/linux/link-monitor.ts', import.meta.url).href)};
      watchLinks(() => {});`;
    const started = performance.now();
    execFileSync(process.execPath, ['--import', 'tsx', '--input-type=module', '-e', script], {
      timeout: 20_000,
    });
    expect(performance.now() - started).toBeLessThan(20_000);
  });
});
