--- @include "anchor"
--- @include "resources"
-- Slots from 0 on, each for ever the same resources. A slot is leased, or in COOLING (cooling, or cool and
-- free), or never used yet (at or above the frontier). Nothing is enumerated. Slots of addresses that are not leased any
-- more are set aside: so much later are they cool.
local ASIDE_MS = 1e15
-- Slots looked at for one that may be leased.
local LOOK_AHEAD = 16
local LOOKS_BACK = 8
-- plan.ts
local MOST_LEASES = 4096
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

local function forgetSlot(slot)
  local device = redis.call('HGET', FORMER, 's:' .. slot)
  if device then
    forgetFormer(device, slot)
    redis.call('HDEL', FORMER, 's:' .. slot)
  end
end

-- Whether `device` could have the slot, one that may be leased.
local function isFree(slot, device)
  if tonumber(slot) >= tonumber(redis.call('HGET', META, 'frontier')) then
    return true
  end
  local coolMs = redis.call('ZSCORE', COOLING, slot)
  return coolMs and (tonumber(coolMs) <= now or redis.call('HGET', FORMER, 's:' .. slot) == device) or false
end

-- The slot that has been cool the longest. Where ports alone are asked for, one whose SPIs still rest goes before.
local function coolSlotFor(plan, kind)
  if kind == 'rsap-ip' then
    local of = redis.call('HMGET', META, 'coolingMs', 'spiCoolingMs')
    local rested = now - math.max(0, tonumber(of[2] or of[1]) - tonumber(of[1]))
    for _, slot in ipairs(redis.call('ZREVRANGEBYSCORE', COOLING, whole(now), '(' .. whole(rested), 'LIMIT', 0, LOOK_AHEAD)) do
      if isOpen(plan, slot) then
        return slot
      end
    end
  end
  for _ = 1, LOOKS_BACK do
    local cool = redis.call('ZRANGEBYSCORE', COOLING, '-inf', whole(now), 'LIMIT', 0, LOOK_AHEAD)
    for _, slot in ipairs(cool) do
      if isOpen(plan, slot) then
        return slot
      end
      redis.call('ZINCRBY', COOLING, ASIDE_MS, slot)
    end
    if #cool < LOOK_AHEAD then
      return nil
    end
  end
end

-- How many port blocks one may double to.
local function mostBlocks(plan)
  local most = tonumber(redis.call('HGET', META, 'maxPortBlock') or plan.portBlock)
  return plan.sharing == 'whole' and 1 or math.max(1, most / plan.portBlock)
end

-- The first slot from `slot` on whose port block is the first of `blocks` that may become one.
local function firstOfBlocks(plan, slot, blocks)
  local place = placeOfSlot(plan, slot)
  if not place then
    return slot
  end
  local segment = place.segment
  local row = math.floor(place.number / segment.addresses)
  local ahead = -(plan.firstPortBlock + row) % blocks
  if row == 0 or ahead == 0 then
    return slot
  end
  return segment.first + math.min(segment.slots, (row + ahead) * segment.addresses)
end

local function freshSlot(plan, blocks)
  local slot = tonumber(redis.call('HGET', META, 'frontier'))
  for _ = 1, LOOK_AHEAD do
    slot = firstOfBlocks(plan, slot, blocks)
    if slot >= plan.slots then
      return nil
    elseif isOpen(plan, slot) then
      return whole(slot)
    end
    slot = slot + 1
  end
end

-- Where `device` gets a slot: the one it had last, else a fresh one, where blocks may double beside what nobody has, else the
-- longest cooled.
local function pickSlot(plan, device, kind)
  -- While much is drained there may be more slots than leases that an anchor can hold.
  if plan.slots > MOST_LEASES and redis.call('HLEN', LEASES) >= MOST_LEASES then
    return nil
  end
  local former = formerSlots(device)
  for at = #former, 1, -1 do
    if isOpen(plan, former[at]) then
      return former[at]
    end
  end
  return freshSlot(plan, mostBlocks(plan)) or freshSlot(plan, 1) or coolSlotFor(plan, kind)
end

local function takeSlot(slot)
  local number = tonumber(slot)
  local frontier = tonumber(redis.call('HGET', META, 'frontier'))
  if number < frontier then
    redis.call('ZREM', COOLING, slot)
    forgetSlot(slot)
    return
  end
  -- Those before it are as good as new: cool since ever.
  for skipped = frontier, number - 1 do
    redis.call('ZADD', COOLING, 0, whole(skipped))
  end
  redis.call('HSET', META, 'frontier', whole(number + 1))
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
  local of = redis.call('HMGET', META, 'capacity', 'frontier', 'slots')
  local unleased = tonumber(of[3] or of[1]) - tonumber(of[2]) + redis.call('ZCOUNT', COOLING, '-inf', whole(now))
  return math.min(tonumber(of[1]), unleased)
end
