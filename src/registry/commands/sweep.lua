#!lua flags=allow-oom
--[[
  Ends leases that have run out and grants that nobody installed in time; the owner's task alone, so that no
  lease ends behind the back of a relay that still forwards for it.

  KEYS  the anchor's (include/anchor.lua)
  ARGV  1 epoch  2 limit  3 ends what has run out by then, by this server's clock; '' for now
  Events  ended (expired or withdrawn), one a lease
  Returns {now, free slots, 1 when more is due, lease, reason, lease, reason ...}, or STALE_EPOCH, QUARANTINED
]]
--- @include "leases"
if quarantined() then
  return QUARANTINED
end
-- 1. Epoch. (Idempotent as it stands: what is gone does not end again.)
if redis.call('HGET', META, 'epoch') ~= ARGV[1] or redis.call('HEXISTS', META, 'owner') == 0 then
  return STALE_EPOCH
end
-- 2. Change.  spin: leases.sweep
local latestMs = math.min(now, tonumber(ARGV[3]) or now)
local due = redis.call('ZRANGEBYSCORE', EXPIRIES, '-inf', whole(latestMs), 'LIMIT', 0, ARGV[2] + 1)
local more = #due > tonumber(ARGV[2])
local answer = { now, 0, more and 1 or 0 }
for at = 1, math.min(#due, tonumber(ARGV[2])) do
  local lease = decodeLease(due[at], redis.call('HGET', LEASES, due[at]))
  local reason = lease.state == 'pending' and 'withdrawn' or 'expired'
  answer[#answer + 1] = endLease(lease, reason)
  answer[#answer + 1] = reason
end
answer[2] = freeSlots()
return answer
