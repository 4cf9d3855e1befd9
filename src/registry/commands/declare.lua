--[[
  Makes an anchor known, or changes what is declared of it. Declaring the same again changes nothing.

  KEYS  the anchor's (include/anchor.lua)
  ARGV  1 the plan that this one follows, as it is stored, or ''  2 plan JSON (plan.ts)
        3 '1' when it numbers the slots anew: only while nobody holds or just held one of the old
        4 declaration JSON  5 home relay  6 coolingMs  7 spiCoolingMs  8 longestLeaseMs  9 shortestLeaseMs
        10 '1' while something of it is drained  11 quarantineMs  12 maxPortBlock
        13 how many leases a tenant may hold in the pool, or ''
  Events  declared, when addresses come or go
  Returns the pool it was in before, or '', or LEASES_WOULD_BE_ORPHANED, PLAN_MOVED, QUARANTINED
]]
--- @include "slots"
--- @include "quarantine"
--- @include "events"
--- @include "allowances"
local stored = redis.call('HMGET', META, 'plan', 'declaration')
local isKnown = stored[2] ~= false
local isMoving = stored[1] ~= ARGV[2]
-- 1. Slots: as one declaration after another, and never under a registry that may have lost something.
if isMoving then
  if quarantined() then
    return QUARANTINED
  end
  if (stored[1] or '') ~= ARGV[1] then
    return PLAN_MOVED
  end
  -- 2. Other resources: only while nobody holds or just held one of the old.
  if ARGV[3] == '1' and stored[1] then
    if redis.call('HLEN', LEASES) > 0 or redis.call('ZCOUNT', COOLING, '(' .. whole(now), '+inf') > 0 then
      return LEASES_WOULD_BE_ORPHANED
    end
    redis.call('UNLINK', COOLING, FORMER)
  end
  -- 3. Change.
  if ARGV[3] == '1' then
    redis.call('HSET', META, 'frontier', 0)
  end
  local plan = cjson.decode(ARGV[2])
  redis.call('HSET', META, 'plan', ARGV[2], 'pool', plan.pool, 'capacity', plan.capacity, 'slots', plan.slots)
end
-- 4. What may change at any time.
redis.call(
  'HSET', META, 'schema', SCHEMA, 'declaration', ARGV[4], 'home', ARGV[5], 'coolingMs', ARGV[6], 'spiCoolingMs', ARGV[7],
  'longestLeaseMs', ARGV[8], 'shortestLeaseMs', ARGV[9], 'drains', ARGV[10], 'quarantineMs', ARGV[11],
  'maxPortBlock', ARGV[12]
)
redis.call('HSETNX', META, 'epoch', 0)
redis.call('HSETNX', META, 'counter', 0)
redis.call('HSETNX', META, 'server', server)
-- What was dealt to it in another pool is nothing here.
if ARGV[3] == '1' or (redis.call('HGET', META, 'maxLeasesPerTenant') or '') ~= ARGV[13] then
  limitTenants(ARGV[13])
end
-- 5. Its relay is to announce other addresses.
if isMoving and isKnown then
  publish(takeFence(), 'declared')
end
return isKnown and cjson.decode(stored[2]).pool or ''
