--[[
  Notes which addresses an anchor has, unless another has one of them: an address belongs to one anchor. What the
  anchor had before and is not named any more is free again.

  KEYS  1 spans in the order of addresses, '<4 or 6>:<first>:<last>:<anchor>' with addresses in hexadecimal
        2 anchor -> its spans
  ARGV  1 anchor  2 its spans as JSON: '<4 or 6>:<first>:<last>' each, no two of them meeting; [] for none
  Events  none
  Returns '', or the other anchor's span that is in the way
]]
--- @include "codes"
local SPANS, ANCHORS = unpack(KEYS)
local anchor = ARGV[1]

local function each(json, act)
  for _, span in ipairs(json and cjson.decode(json) or {}) do
    act(span .. ':' .. anchor)
  end
end
local function remove(member)
  redis.call('ZREM', SPANS, member)
end
local function add(member)
  redis.call('ZADD', SPANS, 0, member)
end

-- 1. Idempotency: the same again.
local former = redis.call('HGET', ANCHORS, anchor)
if former == ARGV[2] then
  return ''
end
-- 2. Others' addresses: the last span that begins at or before an end is the only one that can reach beyond it.
each(former, remove)
local clash = ''
for _, span in ipairs(cjson.decode(ARGV[2])) do
  local family, first, last = string.match(span, '^(%d):(%x+):(%x+)$')
  local before = redis.call('ZREVRANGEBYLEX', SPANS, '[' .. family .. ':' .. last .. ';', '[' .. family .. ':', 'LIMIT', 0, 1)[1]
  if before and string.match(before, '^%d:%x+:(%x+)') >= first then
    clash = before
    break
  end
end
if clash ~= '' then
  each(former, add)
  return clash
end
-- 3. Change.
each(ARGV[2], add)
if ARGV[2] == '[]' then
  redis.call('HDEL', ANCHORS, anchor)
else
  redis.call('HSET', ANCHORS, anchor, ARGV[2])
end
return ''
