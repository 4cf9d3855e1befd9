--[[
  Sets slots that rest aside when their addresses are not leased any more, and puts those back that are leased again; some
  at a time.

  KEYS  the anchor's (include/anchor.lua)
  ARGV  1 cursor, 0 to begin with  2 how many at a time
  Events  none
  Returns {cursor to go on with; 1 when that was all; how many of these slots still cool and are not leased any more}, or
          UNDECLARED, QUARANTINED
]]
--- @include "slots"
--- @include "quarantine"
if quarantined() then
  return QUARANTINED
end
local stored = redis.call('HGET', META, 'plan')
if not stored then
  return UNDECLARED
end
local plan = cjson.decode(stored)
-- 1. Fresh slots that nobody is to get are as if they had been leased once.
local frontier = tonumber(redis.call('HGET', META, 'frontier'))
local last = math.min(frontier + tonumber(ARGV[2]), plan.slots)
while frontier < last and not isOpen(plan, frontier) do
  if placeOfSlot(plan, frontier) then
    redis.call('ZADD', COOLING, whole(ASIDE_MS), whole(frontier))
  end
  frontier = frontier + 1
end
redis.call('HSET', META, 'frontier', whole(frontier))
-- 2. Those that rest. A slot may be seen twice: what is done stays.
local cooling = 0
local found = redis.call('ZSCAN', COOLING, ARGV[1], 'COUNT', ARGV[2])
for at = 1, #found[2], 2 do
  local slot, coolMs = found[2][at], tonumber(found[2][at + 1])
  local place = placeOfSlot(plan, slot)
  if not place then
    redis.call('ZREM', COOLING, slot)
    forgetSlot(slot)
  elseif closedRange(plan, place) then
    local dueMs = coolMs % ASIDE_MS
    if coolMs < ASIDE_MS then
      redis.call('ZADD', COOLING, whole(coolMs + ASIDE_MS), slot)
    end
    cooling = cooling + (dueMs > now and 1 or 0)
  elseif coolMs >= ASIDE_MS then
    redis.call('ZADD', COOLING, whole(coolMs % ASIDE_MS), slot)
  end
end
local isOver = found[1] == '0' and (frontier >= plan.slots or isOpen(plan, frontier))
return { found[1], isOver and 1 or 0, cooling }
