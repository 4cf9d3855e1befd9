--[[
  Makes an anchor known, or changes its declaration. Declaring the same again changes nothing.

  KEYS  the anchor's (include/anchor.lua)
  ARGV  1 plan JSON: what decides the resources of a slot, without the permutation key
        2 permutation key JSON, used when the resources are new
        3 capacity  4 coolingMs  5 home relay  6 declaration JSON  7 quarantineMs
  Events  none
  Returns the pool it was in before, or '', or LEASES_WOULD_BE_ORPHANED, QUARANTINED
]]
--- @include "slots"
--- @include "quarantine"
-- 1. The same resources again: nothing about slots changes.
local stored = redis.call('HGET', META, 'planText')
if stored ~= ARGV[1] then
  if quarantined() then
    return QUARANTINED
  end
  -- 2. Other resources: only while nobody holds or just held one of the old.
  if redis.call('HLEN', LEASES) > 0 or redis.call('ZCOUNT', COOLING, '(' .. whole(now), '+inf') > 0 then
    return LEASES_WOULD_BE_ORPHANED
  end
  -- 3. A new numbering of slots under a new permutation.
  local plan = cjson.decode(ARGV[1])
  plan.key = cjson.decode(ARGV[2])
  redis.call('DEL', COOLING, FORMER)
  redis.call('HSET', META, 'planText', ARGV[1], 'plan', cjson.encode(plan), 'frontier', 0, 'capacity', ARGV[3])
end
local former = redis.call('HGET', META, 'declaration')
-- 4. What may change at any time.
redis.call('HSET', META, 'coolingMs', ARGV[4], 'home', ARGV[5], 'declaration', ARGV[6], 'quarantineMs', ARGV[7])
redis.call('HSETNX', META, 'epoch', 0)
redis.call('HSETNX', META, 'counter', 0)
redis.call('HSETNX', META, 'server', server)
return former and cjson.decode(former).pool or ''
