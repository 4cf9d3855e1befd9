--[[
  Keeps the last proven path of a session, behind the data path.

  KEYS  the anchor's (include/anchor.lua)
  ARGV  1 epoch  2 session id  3 device boot  4 generation  5 hint JSON
  Events  none
  Returns 1 when kept, 0 when the session is gone or the hint is not newer, or STALE_EPOCH
]]
--- @include "anchor"
-- 1. Epoch.
if redis.call('HGET', META, 'epoch') ~= ARGV[1] then
  return STALE_EPOCH
end
-- 2. Order: generations count within an epoch and a device boot. Sent twice it is not newer.
if redis.call('HEXISTS', SESSIONS, ARGV[2]) == 0 then
  return 0
end
local stored = redis.call('HGET', HINTS, ARGV[2])
if stored then
  local former = cjson.decode(stored)
  if former.epoch == ARGV[1] and former.deviceBoot == ARGV[3] and former.generation >= tonumber(ARGV[4]) then
    return 0
  end
end
-- 3. Change.
local hint = cjson.decode(ARGV[5])
hint.epoch = ARGV[1]
redis.call('HSET', HINTS, ARGV[2], cjson.encode(hint))
return 1
