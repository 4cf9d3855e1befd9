--- @include "anchor"
-- Slots 0..capacity-1, each for ever the same resources. A slot is leased, or in COOLING (cooling, or cool and
-- free), or never used yet (at or above the frontier). Nothing is enumerated.
local function formerSlots(device)
  local slots = {}
  for slot in string.gmatch(redis.call('HGET', FORMER, 'd:' .. device) or '', '%d+') do
    slots[#slots + 1] = slot
  end
  return slots
end

local function forgetFormer(device, slot)
  local left = {}
  for _, other in ipairs(formerSlots(device)) do
    if other ~= slot then
      left[#left + 1] = other
    end
  end
  if #left > 0 then
    redis.call('HSET', FORMER, 'd:' .. device, table.concat(left, ','))
  else
    redis.call('HDEL', FORMER, 'd:' .. device)
  end
end

-- Where `device` gets a slot: the one it had last, else a fresh one, else the longest cooled. Changes nothing.
local function pickSlot(device, capacity)
  local former = formerSlots(device)
  if #former > 0 then
    return former[#former]
  end
  local frontier = tonumber(redis.call('HGET', META, 'frontier'))
  if frontier < capacity then
    return whole(frontier)
  end
  return redis.call('ZRANGEBYSCORE', COOLING, '-inf', whole(now), 'LIMIT', 0, 1)[1]
end

local function takeSlot(slot)
  if redis.call('HGET', META, 'frontier') == slot then
    redis.call('HINCRBY', META, 'frontier', 1)
    return
  end
  redis.call('ZREM', COOLING, slot)
  forgetFormer(redis.call('HGET', FORMER, 's:' .. slot), slot)
  redis.call('HDEL', FORMER, 's:' .. slot)
end

local function coolSlot(slot, device)
  local coolingMs = tonumber(redis.call('HGET', META, 'coolingMs'))
  redis.call('ZADD', COOLING, whole(now + coolingMs), slot)
  redis.call('HSET', FORMER, 's:' .. slot, device)
  local former = formerSlots(device)
  former[#former + 1] = slot
  redis.call('HSET', FORMER, 'd:' .. device, table.concat(former, ','))
end

-- How many slots a stranger could get now.
local function freeSlots()
  local of = redis.call('HMGET', META, 'capacity', 'frontier')
  return tonumber(of[1]) - tonumber(of[2]) + redis.call('ZCOUNT', COOLING, '-inf', whole(now))
end
