--[[
  Notes in a device's index what anchors say that it holds. What is no index of ours is thrown away before.

  KEYS  the device's (include/device.lua)
  ARGV  1 pool  2 the highest bind id among them  3 index for which this is all that the pool's anchors hold, or ''
        then the lease ids
  Events  none
  Returns OK, or INDEX_BEHIND: another server answers by now
]]
--- @include "device"
if ARGV[3] ~= '' and ARGV[3] ~= INDEX_NAME then
  return INDEX_BEHIND
end
local form = redis.call('TYPE', INDEX).ok
if form ~= 'hash' and form ~= 'none' then
  redis.call('DEL', INDEX)
end
for at = 4, #ARGV do
  redis.call('HSET', INDEX, ARGV[at], '+' .. ARGV[1])
end
if tonumber(redis.call('HGET', INDEX, 'bindId') or 0) < tonumber(ARGV[2]) then
  redis.call('HSET', INDEX, 'bindId', ARGV[2])
end
if ARGV[3] ~= '' then
  redis.call('HSET', INDEX, 'whole:' .. ARGV[1], INDEX_NAME)
end
return 'OK'
