#!lua flags=allow-oom
--[[
  Puts the ends of leases off, by the word of their owner: nobody could extend them while the registry did not answer.
  Sent twice it puts them off once, give or take what lies between.

  KEYS  the anchor's (include/anchor.lua)
  ARGV  1 epoch, then pairs: lease id, its life from now in milliseconds
  Events  extended, one a lease that would have ended earlier
  Returns now, or STALE_EPOCH, QUARANTINED
]]
--- @include "leases"
--- @include "lifetimes"
if quarantined() then
  return QUARANTINED
end
-- 1. Epoch.
if redis.call('HGET', META, 'epoch') ~= ARGV[1] or redis.call('HEXISTS', META, 'owner') == 0 then
  return STALE_EPOCH
end
-- 2. Change. What was freed, revoked or never installed has no end to put off.
for at = 2, #ARGV, 2 do
  local lease = leaseOf(ARGV[at])
  local endsMs = lease and closedBy(lease, now + ARGV[at + 1])
  if lease and lease.state == 'active' and lease.expiresAtMs < endsMs then
    lease.expiresAtMs = endsMs
    announce('extended', lease, sessionOf(lease.device))
    save(lease)
    redis.call('ZADD', EXPIRIES, whole(endsMs), nameOf(lease.id))
  end
end
return now
