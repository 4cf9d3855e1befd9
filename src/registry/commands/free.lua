#!lua flags=allow-oom
--[[
  Ends a lease by its device's wish (RFC 3103 section 9.12).

  KEYS  the anchor's (include/anchor.lua)
  ARGV  1 request  2 lease id  3 tenant  4 device
  Events  ended (freed)
  Returns {now, lease}, or BAD_BIND, QUARANTINED
]]
--- @include "leases"
if quarantined() then
  return QUARANTINED
end
-- 1. Idempotency: the answer holds the ended lease, for its device only.
local request = 'free:' .. ARGV[3] .. '/' .. ARGV[4] .. ':' .. ARGV[2] .. ':' .. ARGV[1]
local answered = recall(request)
if answered then
  return { now, answered }
end
-- 2. Whose it is.
local lease = heldBy(ARGV[2], ARGV[3], ARGV[4])
if not lease then
  return BAD_BIND
end
-- 3. Change.  spin: leases.free
local ended = endLease(lease, 'freed')
remember(request, ended)
return { now, ended }
