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
  return { now, cjson.encode(lease) }
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
local json = announce('activated', lease, '')
save(lease, json)
redis.call('ZADD', EXPIRIES, whole(lease.expiresAtMs), lease.id)
return { now, json }
