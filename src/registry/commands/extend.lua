--[[
  A lease lasts so long from now (RFC 3103 section 9.10). Sent twice it extends once.

  KEYS  the anchor's (include/anchor.lua)
  ARGV  1 request  2 lease id  3 tenant  4 device  5 leaseMs
  Events  extended
  Returns {now, lease}, or BAD_BIND, QUARANTINED
]]
--- @include "leases"
--- @include "lifetimes"
if quarantined() then
  return QUARANTINED
end
local lease = heldBy(ARGV[2], ARGV[3], ARGV[4])
if not lease or lease.state ~= 'active' then
  return BAD_BIND
end
local session = sessionOf(lease.device)
-- 1. Idempotency. The request names the lease as well: it cannot answer for another.
local request = 'extend:' .. lease.id .. ':' .. ARGV[1]
if recall(request) then
  return { now, shown(lease, session) }
end
-- 2. Change.
local meta = redis.call('HMGET', META, 'longestLeaseMs', 'shortestLeaseMs', 'capacity')
lease.expiresAtMs = closedBy(lease, now + lifetime(tonumber(ARGV[5]), meta[1], meta[2], meta[3]))
announce('extended', lease, session)
save(lease)
redis.call('ZADD', EXPIRIES, whole(lease.expiresAtMs), nameOf(lease.id))
remember(request, 'E')
return { now, shown(lease, session) }
