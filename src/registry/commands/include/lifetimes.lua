--- @include "anchor"
--- @include "resources"
-- How long a lease may last from now: as wished, at most as long as the pool says, and that falls with the slots that
-- are left once half of them are leased.
local function lifetime(wishMs, longest, shortest, capacity)
  local mostMs = tonumber(longest or wishMs)
  local leastMs = tonumber(shortest or mostMs)
  if leastMs < mostMs then
    local held = redis.call('HLEN', LEASES) + (redis.call('HGET', META, 'extraSlots') or 0)
    local left = 1 - held / math.max(1, tonumber(capacity))
    mostMs = leastMs + (mostMs - leastMs) * math.min(1, math.max(0, left * 2))
  end
  return math.floor(math.min(wishMs, mostMs))
end

-- When a lease that is to end at an instant does: what is taken out of the pool ends at its time.
local function closedBy(lease, expiresAtMs)
  local drains, plan = unpack(redis.call('HMGET', META, 'drains', 'plan'))
  if drains ~= '1' then
    return expiresAtMs
  end
  plan = cjson.decode(plan)
  local place = placeOfSlot(plan, lease.slot)
  local range = place and closedRange(plan, place)
  return range and math.min(expiresAtMs, range.untilMs) or expiresAtMs
end
