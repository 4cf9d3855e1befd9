--[[
  Notes in the device's index that an attempt of its request was granted.

  KEYS  the device's (include/device.lua)
  ARGV  1 request  2 attempt  3 lease id  4 pool  5 anchor
  Events  none
  Returns OK
]]
--- @include "device"
local stored = redis.call('HGET', INTENTS, ARGV[1])
if stored then
  local intent = cjson.decode(stored)
  if intent.attempt == ARGV[2] then
    intent.lease = ARGV[3]
    redis.call('HSET', INTENTS, ARGV[1], cjson.encode(intent))
    redis.call('HDEL', OPEN, ARGV[1])
  end
end
redis.call('HSET', HELD, ARGV[3], ARGV[4])
redis.call('HSET', NOTES, 'last:' .. ARGV[4], ARGV[5])
return 'OK'
