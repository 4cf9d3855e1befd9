--[[
  Deals leases of a tenant to an anchor whose allowance is used up, as far as the limit leaves some; else names anchors whose
  unused ones are to be called in (call_in, take_back).

  KEYS  the tenant's in the pool (include/tenant.lua)
  ARGV  1 since when the pool limits its tenants  2 limit  3 anchor  4 used there  5 number of that word
  Events  none
  Returns {history, dealt to the anchor in all, other anchors ...}, of which it is to allow the second by that word (allow); or {history}:
          every anchor of the pool is to be called in before
]]
--- @include "tenant"
-- Of what is left a share, so that other anchors find some too.
local SHARE = 8
local MOST = 64
-- Anchors called in at once, and how long after its last word one is asked again.
local AT_ONCE = 16
local PAUSE_MS = 200
local limit, anchor, used, number = tonumber(ARGV[2]), ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
-- 1. What a fail-over may have lost decides nothing, nor what was dealt when the pool last had a limit.
local history = server .. '/' .. ARGV[1]
if redis.call('HGET', DEALT, ':whole') ~= history then
  return { history }
end
keep()
-- 2. Idempotency: by the same word more, never less; an older one changes nothing.
local dealt, known = dealtTo(anchor)
if number < known then
  return { history, dealt }
end
-- 3. Change.
local others = dealtInAll() - dealt
if number > known then
  dealt = used
end
if dealt <= used then
  local room = math.max(0, limit - others - used)
  dealt = used + math.min(room, MOST, math.ceil(room / SHARE))
end
note(anchor, dealt, number)
-- Of a limit that was lowered since no more than is left, whatever was dealt by the same word before.
dealt = math.min(dealt, math.max(used, limit - others))
local answer = { history, dealt }
if dealt <= used then
  -- The longest unasked first, so that each has its turn.
  for _, other in ipairs(redis.call('ZRANGEBYSCORE', ASKED, '-inf', whole(now - PAUSE_MS), 'LIMIT', 0, AT_ONCE + 1)) do
    if other ~= anchor then
      redis.call('ZADD', ASKED, whole(now), other)
      answer[#answer + 1] = other
    end
  end
end
return answer
