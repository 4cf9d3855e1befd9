#!lua flags=allow-oom
--[[
  Drops an intent that no anchor could grant; the request may be tried anew.

  KEYS  the device's (include/device.lua)
  ARGV  1 lease id that the attempt would have become
  Events  none
  Returns OK
]]
--- @include "device"
if readNote(redis.call('HGET', INDEX, ARGV[1]) or '') == '?' then
  redis.call('HDEL', INDEX, ARGV[1])
end
return 'OK'
