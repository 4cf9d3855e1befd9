import { parseArgs } from 'node:util';
import { expect, test } from 'vitest';
import { parseLaptopConfig } from '../../../clients/laptop/config.ts';
import { SETTING_FLAGS, settingsFrom } from '../../../clients/laptop/setting-flags.ts';

const FILE = `
signalling: { url: wss://door.example/v1, caFile: /etc/mooring/ca.pem }
issuer: { tokenEndpoint: https://issuer.example/token, clientId: laptop-1, audience: https://door.example }
pool: whole
kind: rsa-ip
routes: [203.0.113.0/24]
`;

const configured = (...args: string[]) => {
  const { values } = parseArgs({ args, options: { ...SETTING_FLAGS, config: { type: 'string' } } });
  return parseLaptopConfig(FILE, 'laptop.yaml', settingsFrom(values));
};

test('a flag goes before the setting of that name, and leaves the others beside it alone', () => {
  const flags = [
    '--signalling.url',
    'wss://other.example/v1',
    '--killSwitch',
    '--table',
    '77',
    '--kind',
    'rsipsec',
  ];
  expect(configured(...flags, '--routes', '0.0.0.0/0', '--routes', '::/0')).toEqual({
    ...configured(),
    signalling: { url: 'wss://other.example/v1', caFile: '/etc/mooring/ca.pem' },
    ...{ killSwitch: true, table: 77, kind: 'rsipsec', routes: ['0.0.0.0/0', '::/0'] },
  });
});

test('a flag gives what the file has not', () => {
  const { issuer, charon } = configured(
    '--issuer.privateKeyFile',
    '/key.pem',
    '--charon.file',
    '/charon.conf',
  );
  expect(issuer.privateKeyFile).toBe('/key.pem');
  expect(charon).toEqual({ file: '/charon.conf', reload: ['swanctl', '--reload-settings'] });
});

test('what is wrong with it is said as of the file, and of the settings together', () => {
  expect(() => configured('--table', 'many')).toThrow(/laptop\.yaml: table is "many"/);
  expect(() => configured('--behind', 'br0')).toThrow(/routes .* leave it out with `behind`/);
  expect(() => configured('--nonsense', '1')).toThrow(/nonsense/);
});
