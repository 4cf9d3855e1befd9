--- @include "permutation"
-- Slot -> address, port block, SPI block, IKE SPI block, by the anchor's plan (plan.ts), and back.
local IKE_PREFIX_BITS = 16
local IKE_BLOCK = 65536
-- Above its segment's tweak, as those of SPIs (0) and of prefixes (1 and up).
local IKE_TWEAK = 65536

local function textV6(bytes)
  local groups = {}
  for at = 1, 16, 2 do
    groups[#groups + 1] = bytes[at] * 256 + bytes[at + 1]
  end
  -- RFC 5952: the first longest run of at least two zero groups becomes "::".
  local bestAt, bestLength, at = 0, 1, 1
  while at <= 8 do
    local length = 0
    while groups[at + length] == 0 do
      length = length + 1
    end
    if length > bestLength then
      bestAt, bestLength = at, length
    end
    at = at + math.max(length, 1)
  end
  local head, tail = {}, {}
  for group = 1, 8 do
    if bestAt == 0 or group < bestAt then
      head[#head + 1] = string.format('%x', groups[group])
    elseif group >= bestAt + bestLength then
      tail[#tail + 1] = string.format('%x', groups[group])
    end
  end
  local text = table.concat(head, ':')
  return bestAt == 0 and text or text .. '::' .. table.concat(tail, ':')
end

local function addressText(prefix, host)
  local bytes = {}
  for pair in string.gmatch(prefix.hex, '%x%x') do
    bytes[#bytes + 1] = tonumber(pair, 16)
  end
  local at = #bytes
  while host > 0 do
    bytes[at] = bytes[at] + host % 256
    host = math.floor(host / 256)
    at = at - 1
  end
  return #bytes == 4 and table.concat(bytes, '.') or textV6(bytes)
end

local function isV6(address)
  return string.find(address, ':', 1, true) ~= nil
end

-- The octets of an address that this file wrote, in hexadecimal.
local function hexOf(address)
  if not isV6(address) then
    return string.format('%02x%02x%02x%02x', string.match(address, '(%d+)%.(%d+)%.(%d+)%.(%d+)'))
  end
  local function groupsOf(text)
    return (string.gsub(text, '(%x+):?', function(group) return string.rep('0', 4 - #group) .. group end))
  end
  local head, tail = string.match(address, '^(.*)::(.*)$')
  head, tail = groupsOf(head or address), groupsOf(tail or '')
  return head .. string.rep('0', 32 - #head - #tail) .. tail
end

-- Where a slot lies: {segment, number in it, prefix, number in that, tweak of that}; nil when its prefix has gone.
local function placeOfSlot(plan, slot)
  slot = tonumber(slot)
  for _, segment in ipairs(plan.segments) do
    local number = slot - segment.first
    if number >= 0 and number < segment.slots then
      local ordinal = number % segment.addresses
      for at, prefix in ipairs(segment.prefixes) do
        if ordinal < prefix.addresses then
          return { segment = segment, number = number, prefix = prefix, ordinal = ordinal, tweak = segment.tweak + at }
        end
        ordinal = ordinal - prefix.addresses
      end
    end
  end
end

-- The number of its address in the prefix. A tenth of a grant's time: only where it is needed.
local function hostOf(plan, place)
  return permute(place.ordinal, place.prefix.width, plan.key, place.tweak)
end

-- The range of addresses, not leased any more, that a slot's address belongs to.
local function closedRange(plan, place)
  if not place.prefix.closed then
    return nil
  end
  local host = hostOf(plan, place)
  for _, range in ipairs(place.prefix.closed) do
    if host >= range.from and host < range.from + range.count then
      return range
    end
  end
end

local function isOpen(plan, slot)
  local place = placeOfSlot(plan, slot)
  return place ~= nil and closedRange(plan, place) == nil
end

-- SPIs 0-255 are reserved (RFC 4303 section 2.1): walk the cycle until the block lies above them.
local function spisOf(plan, segment, number)
  local block = number + plan.reservedSpiBlocks
  repeat
    block = permute(block, plan.spiWidth, plan.key, segment.tweak)
  until block >= plan.reservedSpiBlocks
  return block * plan.spiBlock
end

-- The number of the slot with an SPI, in a segment; at or above the segment's slots: none.
local function numberOfSpi(plan, segment, spi)
  local block = math.floor(spi / plan.spiBlock)
  if block < plan.reservedSpiBlocks then
    return math.huge
  end
  repeat
    block = unpermute(block, plan.spiWidth, plan.key, segment.tweak)
  until block >= plan.reservedSpiBlocks
  return block - plan.reservedSpiBlocks
end

-- By their first 32 bits. Block 0 stays unused: an IKE SPI is never 0 (RFC 7296 section 2.6).
local function ikeSpisOf(plan, segment, number)
  local block = number + 1
  repeat
    block = permute(block, IKE_PREFIX_BITS, plan.key, segment.tweak + IKE_TWEAK)
  until block > 0
  return block * IKE_BLOCK
end

-- As records have it: '-' for none.
local function blockText(first, count)
  return whole(first) .. '/' .. whole(math.floor(math.log(count) / math.log(2) + 0.5))
end

local function resourcesOf(plan, slot, kind)
  local place = placeOfSlot(plan, slot)
  if not place then
    return { address = '-', ports = '-', spis = '-', ikeSpis = '-' }
  end
  local address = addressText(place.prefix, hostOf(plan, place))
  if plan.sharing == 'whole' then
    return { address = address, ports = '-', spis = '-', ikeSpis = '-' }
  end
  local segment, number = place.segment, place.number
  local block = plan.firstPortBlock + math.floor(number / segment.addresses)
  return {
    address = address,
    ports = blockText(block * plan.portBlock, plan.portBlock),
    spis = kind == 'rsipsec' and blockText(spisOf(plan, segment, number), plan.spiBlock) or '-',
    ikeSpis = kind == 'rsipsec' and blockText(ikeSpisOf(plan, segment, number), IKE_BLOCK) or '-',
  }
end
