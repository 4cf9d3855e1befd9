#!lua flags=allow-oom
--[[
  Notes in the device's index that a lease was granted.

  KEYS  the device's (include/device.lua)
  ARGV  1 lease id  2 pool
  Events  none
  Returns OK
]]
--- @include "device"
redis.call('HSET', INDEX, ARGV[1], '+' .. ARGV[2])
return 'OK'
