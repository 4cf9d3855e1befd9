--[[
  The owner has installed a pending lease: it forwards from now on.

  KEYS  the anchor's (include/anchor.lua)
  ARGV  1 lease id  2 epoch
  Events  activated
  Returns {now, lease}, or STALE_EPOCH, WITHDRAWN, QUARANTINED
]]
--- @include "leases"
if quarantined() then
  return QUARANTINED
end
local lease = leaseOf(ARGV[1])
-- 1. Idempotency.
if lease and lease.state == 'active' and not isOver(lease) then
  return { now, shown(lease, sessionOf(lease.device)) }
end
-- 2. Epoch.
if redis.call('HGET', META, 'epoch') ~= ARGV[2] then
  return STALE_EPOCH
end
-- 3. Too late.
if not lease or isOver(lease) then
  return WITHDRAWN
end
-- 4. Change.  spin: leases.activate
lease.state = 'active'
local session = sessionOf(lease.device)
announce('activated', lease, session)
save(lease)
redis.call('ZADD', EXPIRIES, whole(lease.expiresAtMs), nameOf(lease.id))
return { now, shown(lease, session) }
