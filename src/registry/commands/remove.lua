#!lua flags=allow-oom
--[[
  Forgets an anchor of which nothing is leased any more. Its epoch and its counter stay: should it be declared again, they
  go on from there.

  KEYS  the anchor's (include/anchor.lua)
  ARGV  none
  Events  none
  Returns OK, or LEASES_WOULD_BE_ORPHANED, QUARANTINED
]]
--- @include "slots"
--- @include "quarantine"
-- 1. Idempotency: it is gone.
if redis.call('HEXISTS', META, 'plan') == 0 then
  return 'OK'
end
if quarantined() then
  return QUARANTINED
end
-- 2. Nothing of it may be anybody's.
if tonumber(redis.call('HGET', META, 'capacity')) > 0 or redis.call('HLEN', LEASES) > 0 then
  return LEASES_WOULD_BE_ORPHANED
end
-- 3. Change.
local of = redis.call('HMGET', META, 'epoch', 'counter')
redis.call(
  'UNLINK', META, LEASES, SESSIONS, INDEXES, EXPIRIES, COOLING, FORMER, ANSWERS, ANSWERED, STREAM, HINTS, REPORT,
  TENANTS
)
redis.call('HSET', META, 'schema', SCHEMA, 'epoch', of[1], 'counter', of[2])
return 'OK'
