#!lua flags=allow-oom
--[[
  Ends a lease by an operator's word, whatever its device wishes.

  KEYS  the anchor's (include/anchor.lua)
  ARGV  1 lease id  2 the only tenant whose leases the operator may end, or ''
  Events  ended (revoked)
  Returns {now, lease}, or BAD_BIND, QUARANTINED
]]
--- @include "leases"
if quarantined() then
  return QUARANTINED
end
local function isForeign(device)
  return ARGV[2] ~= '' and string.match(device, '^[^/]*') ~= ARGV[2]
end
-- 1. Idempotency: a lease ends once.
local request = 'revoke:' .. ARGV[1]
local answered = recall(request)
if answered then
  return isForeign(deviceShown(answered)) and BAD_BIND or { now, answered }
end
-- 2. Whether it is there, for this operator.
local lease = leaseOf(ARGV[1])
if not lease or isOver(lease) or isForeign(lease.device) then
  return BAD_BIND
end
-- 3. Change.  spin: leases.free
local ended = endLease(lease, 'revoked')
remember(request, ended)
return { now, ended }
