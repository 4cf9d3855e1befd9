import type { OfferedPool } from '../../protocol/signalling.ts';
import { isAdmitted, mayUseIpsec } from '../admission.ts';
import type { Caller, Handler, PoolPolicy } from '../door.ts';

/** What there is to lease for a device; pools that its token does not open are not named. */
export const pools: Handler<'pools'> = async (_frame, caller, door) => ({
  pools: [...door.pools.values()]
    .filter((policy) => isAdmitted(caller.principal, policy))
    .map((policy) => offered(policy, caller)),
});

function offered(policy: PoolPolicy, { principal }: Caller): OfferedPool {
  const { name, realm = 'public', leaseMs, remotePolicy = 'none', maxLeasesPerDevice: maxLeases } = policy;
  const isWhole = policy.sharing === 'whole';
  const ports = isWhole ? null : (policy.portBlock ?? null);
  const maxPorts = isWhole ? undefined : policy.maxPortBlock;
  return {
    ...(maxPorts === undefined ? {} : { maxPorts }),
    ...{ name, realm, remotePolicy, maxLeases, ports },
    kinds: isWhole ? ['rsa-ip'] : mayUseIpsec(principal, policy) ? ['rsap-ip', 'rsipsec'] : ['rsap-ip'],
    spis: isWhole || !mayUseIpsec(principal, policy) ? null : (policy.spiBlock ?? null),
    leaseMs: { default: leaseMs.default, max: leaseMs.max },
  };
}
