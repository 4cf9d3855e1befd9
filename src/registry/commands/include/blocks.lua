--- @include "slots"
-- Port blocks. A lease on a shared address has that of its slot, or one that has doubled since: then it holds every slot of
-- the address whose block lies in that one. `slot` in its record is one of them; its SPIs stay those that it began with.
local function portsIn(text)
  local first, width = string.match(text, '^(%d+)/(%d+)$')
  return tonumber(first), first and 2 ^ tonumber(width)
end

-- The slots of the address of `slot` that make up a port block; nil where the plan has not all of them.
local function slotsOfPorts(plan, slot, first, count)
  local place = placeOfSlot(plan, slot)
  if not place then
    return nil
  end
  local segment, slots = place.segment, {}
  local ordinal = place.number % segment.addresses
  for block = first / plan.portBlock, (first + count) / plan.portBlock - 1 do
    local row = block - plan.firstPortBlock
    local number = row * segment.addresses + ordinal
    if row < 0 or number >= segment.slots then
      return nil
    end
    slots[#slots + 1] = whole(segment.first + number)
  end
  return slots
end

local function slotsIn(plan, lease)
  local first, count = portsIn(lease.ports)
  local isDoubled = first and count > plan.portBlock
  return isDoubled and slotsOfPorts(plan, lease.slot, first, count) or { lease.slot }
end

-- META counts the slots that leases hold beyond one each.
local function countExtraSlots(more)
  if more ~= 0 then
    redis.call('HINCRBY', META, 'extraSlots', more)
  end
end

-- The slots of a stored lease.
local function slotsOf(lease)
  -- Nothing is decoded where nothing has doubled.
  if (redis.call('HGET', META, 'extraSlots') or '0') == '0' then
    return { lease.slot }
  end
  return slotsIn(cjson.decode(redis.call('HGET', META, 'plan')), lease)
end

local function coolSlots(slots, device)
  for _, slot in ipairs(slots) do
    coolSlot(slot, device)
  end
  countExtraSlots(1 - #slots)
end

local function takeMoreSlots(slots)
  for _, slot in ipairs(slots) do
    takeSlot(slot)
  end
  countExtraSlots(#slots)
end

-- The smallest block with a lease's ports in it that has at least `wished`, as {text, the slots that the lease has not yet}; nil
-- when the pool allows no such block, or its device cannot have all of it.
local function doubledFor(lease, wished)
  local plan = cjson.decode(redis.call('HGET', META, 'plan'))
  local first, count = portsIn(lease.ports)
  local most = mostBlocks(plan) * plan.portBlock
  while first and count < wished and count <= most do
    count = count * 2
  end
  if not first or count > most or not isOpen(plan, lease.slot) then
    return nil
  end
  first = first - first % count
  local slots, held, more = slotsOfPorts(plan, lease.slot, first, count), {}, {}
  if not slots then
    return nil
  end
  for _, slot in ipairs(slotsIn(plan, lease)) do
    held[slot] = true
  end
  for _, slot in ipairs(slots) do
    if not held[slot] then
      if not isFree(slot, lease.device) then
        return nil
      end
      more[#more + 1] = slot
    end
  end
  return { blockText(first, count), more }
end
