#!lua flags=allow-oom
--[[
  Takes a pending lease back: its owner relay could not install it.

  KEYS  the anchor's (include/anchor.lua)
  ARGV  1 lease id
  Events  ended (withdrawn)
  Returns {now, lease}, {now} when it is gone already, or NOT_PENDING, QUARANTINED
]]
--- @include "leases"
if quarantined() then
  return QUARANTINED
end
local lease = leaseOf(ARGV[1])
-- 1. Idempotency.
if not lease then
  return { now }
end
-- 2. Only what never forwarded.
if lease.state ~= 'pending' then
  return NOT_PENDING
end
-- 3. Change.  spin: leases.withdraw
return { now, endLease(lease, 'withdrawn') }
