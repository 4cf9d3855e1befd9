import fc from 'fast-check';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type RealRedis, realRedis } from '../integration/registry/real-redis.ts';
import { tenantCommands, tenantHistory, tenantRuns } from '../oracle/tenant-run.ts';

let server: RealRedis;
beforeAll(async () => {
  server = await realRedis();
});
afterAll(() => server.stop());

test('a tenant never gets more than its limit, nor less while there is room, whatever ends, is lost or late', async () => {
  // A failure prints its seed and its shortest history.
  await fc.assert(fc.asyncProperty(tenantHistory, tenantRuns(server, tenantCommands())), { numRuns: 60 });
});

const TOO_MUCH = /holds \d+ leases, of|got another/;
const TOO_LITTLE = /was refused another/;
test.each<[string, string, string, string, RegExp]>([
  [
    'an anchor keeps what is called in',
    'call_in',
    'math.min(allowance.allowed, allowance.used)',
    'allowance.allowed',
    TOO_MUCH,
  ],
  [
    'an older word of an anchor is believed',
    'take_back',
    'number > select(2, dealtTo(anchor))',
    'true',
    TOO_MUCH,
  ],
  [
    'a lower limit leaves what was allowed',
    'declare',
    "(redis.call('HGET', META, 'maxLeasesPerTenant') or '') ~= ARGV[13]",
    "(redis.call('HEXISTS', META, 'maxLeasesPerTenant') == 1) ~= (ARGV[13] ~= '')",
    TOO_MUCH,
  ],
  ['leases of before the limit are not counted', 'declare', '(used[tenant] or 0) + 1', '0', TOO_MUCH],
  ['nothing is called in for others', 'deal', 'if other ~= anchor then', 'if false then', TOO_LITTLE],
  ['a lease that is freed is not given back', 'free', 'countLease(lease.device, -1)', '', TOO_LITTLE],
])('the check finds a registry in which %s', async (_, where, from, to, finding) => {
  const faulty = tenantCommands((command, lua) => {
    if (command !== where) return lua;
    expect(lua).toContain(from);
    return lua.replace(from, to);
  });
  const found = await fc.check(fc.asyncProperty(tenantHistory, tenantRuns(server, faulty)), {
    ...{ numRuns: 400, endOnFailure: true, seed: 7 },
  });
  expect(String(found.errorInstance)).toMatch(finding);
});
