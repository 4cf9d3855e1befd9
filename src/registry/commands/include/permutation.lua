-- A keyed permutation of 0..2^width-1 (width <= 48): an alternating Feistel network, so a bijection whatever its
-- round function is. The round function is the 32-bit finaliser of MurmurHash3.
local WORD = 4294967296
local ROUNDS = 4

local function times(a, b)
  local high = math.floor(a / 65536)
  local low = a % 65536
  return ((high * b) % 65536 * 65536 + low * b) % WORD
end

local function mix(value)
  value = bit.bxor(value, bit.rshift(value, 16)) % WORD
  value = times(value, 2246822507)
  value = bit.bxor(value, bit.rshift(value, 13)) % WORD
  value = times(value, 3266489909)
  return bit.bxor(value, bit.rshift(value, 16)) % WORD
end

local function walk(value, width, key, tweak, from, to, step)
  local leftWidth = math.floor(width / 2)
  local leftSize = 2 ^ leftWidth
  local rightSize = 2 ^ (width - leftWidth)
  local left = math.floor(value / rightSize)
  local right = value % rightSize
  for round = from, to, step do
    local word = (key[(round - 1) % #key + 1] + times(round + tweak * ROUNDS, 2654435769)) % WORD
    if round % 2 == 1 then
      left = bit.bxor(left, mix((right + word) % WORD) % leftSize) % WORD
    else
      right = bit.bxor(right, mix((left + word) % WORD) % rightSize) % WORD
    end
  end
  return left * rightSize + right
end

local function permute(value, width, key, tweak)
  return walk(value, width, key, tweak, 1, ROUNDS, 1)
end

-- What `permute` made `value` of: each round undoes itself.
local function unpermute(value, width, key, tweak)
  return walk(value, width, key, tweak, ROUNDS, 1, -1)
end
