#!lua flags=allow-oom
--[[
  A lease lasts so long from now (RFC 3103 section 9.10), and has at least so many ports: its port block doubles in place, once
  or several times (RFC 3102 section 3.1). Sent twice it extends once.

  KEYS  the anchor's (include/anchor.lua)
  ARGV  1 request  2 lease id  3 tenant  4 device  5 leaseMs  6 ports, or '' for those that it has
  Events  extended
  Returns {now, lease}, or BAD_BIND, PORTS_UNAVAILABLE, QUARANTINED
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
-- 2. All of the ports, or nothing of what is asked.
local wished = tonumber(ARGV[6]) or 0
local _, has = portsIn(lease.ports)
local doubled
if wished > (has or 0) then
  doubled = doubledFor(lease, wished)
  if not doubled then
    return PORTS_UNAVAILABLE
  end
  lease.ports = doubled[1]
end
-- 3. Change.
local meta = redis.call('HMGET', META, 'longestLeaseMs', 'shortestLeaseMs', 'capacity')
lease.expiresAtMs = closedBy(lease, now + lifetime(tonumber(ARGV[5]), meta[1], meta[2], meta[3]))
announce('extended', lease, session)
save(lease)
takeMoreSlots(doubled and doubled[2] or {})
redis.call('ZADD', EXPIRIES, whole(lease.expiresAtMs), nameOf(lease.id))
remember(request, 'E')
return { now, shown(lease, session) }
