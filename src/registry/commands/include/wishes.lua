--- @include "slots"
-- Resources that a device asks for by name (RFC 3103 section 9.8.3): which slot has them, if it may have it.
-- Slots looked at, where a wish leaves a choice.
local LOOKS = 1024
-- Octets that hosts differ in at most (plan.ts).
local LOW_DIGITS = 12

local function lowOf(hex)
  return tonumber(string.sub(hex, -LOW_DIGITS), 16)
end

-- Which of a segment's addresses that is, leased or not leased any more: its ordinal, or nil.
local function ordinalOf(plan, segment, hex)
  local before = 0
  for at, prefix in ipairs(segment.prefixes) do
    if #prefix.hex == #hex and string.sub(prefix.hex, 1, -LOW_DIGITS - 1) == string.sub(hex, 1, -LOW_DIGITS - 1) then
      local host = lowOf(hex) - lowOf(prefix.hex)
      if host >= 0 and host < 2 ^ prefix.width then
        local ordinal = unpermute(host, prefix.width, plan.key, segment.tweak + at)
        if ordinal < prefix.addresses then
          return before + ordinal
        end
      end
    end
    before = before + prefix.addresses
  end
end

-- Slots of a segment that fit a wish, the likeliest first, as a function that gives one after the other.
local function fitting(plan, segment, wish)
  local ordinal = wish.address and ordinalOf(plan, segment, wish.address)
  local row = wish.port and math.floor(wish.port / plan.portBlock) - plan.firstPortBlock
  local at, step, last = 0, 1, segment.slots - 1
  if wish.address and not ordinal or row and row < 0 then
    return function() end
  end
  if wish.spi then
    at = numberOfSpi(plan, segment, wish.spi)
    last = at
  elseif row then
    at = row * segment.addresses + (ordinal or 0)
    last = ordinal and at or at + segment.addresses - 1
  elseif ordinal then
    at, step = ordinal, segment.addresses
  end
  return function()
    while at <= last and at < segment.slots do
      local number = at
      at = at + step
      local fits = (not ordinal or number % segment.addresses == ordinal)
        and (not row or math.floor(number / segment.addresses) == row)
      if fits and isOpen(plan, segment.first + number) then
        return whole(segment.first + number)
      end
    end
  end
end

-- The slot with an address and, on a shared one, the port block that begins at `port`; nil: the plan has none.
local function slotOf(plan, hex, port)
  local row = port and port / plan.portBlock - plan.firstPortBlock or 0
  for _, segment in ipairs(plan.segments) do
    local ordinal = ordinalOf(plan, segment, hex)
    local number = ordinal and row * segment.addresses + ordinal
    if number and number >= 0 and number < segment.slots then
      return whole(segment.first + number)
    end
  end
end

-- The slot that a wish comes to, or nil and why not.
local function slotWished(plan, device, wish)
  local looks, isThere = 0, false
  for _, segment in ipairs(plan.segments) do
    for slot in fitting(plan, segment, wish) do
      isThere = true
      looks = looks + 1
      if isFree(slot, device) then
        return slot
      elseif looks >= LOOKS then
        break
      end
    end
  end
  if isThere then
    return nil, wish.spi and SPIS_INUSE or wish.port and PORTS_INUSE or ADDRESS_INUSE
  end
  return nil, wish.spi and SPIS_UNAVAILABLE or wish.port and PORTS_UNALLOWED or ADDRESS_UNALLOWED
end
