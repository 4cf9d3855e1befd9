--[[
  Drops an intent that no anchor could grant; the request may be tried anew.

  KEYS  the device's (include/device.lua)
  ARGV  1 request  2 attempt that failed
  Events  none
  Returns OK
]]
--- @include "device"
local stored = redis.call('HGET', INTENTS, ARGV[1])
if stored and cjson.decode(stored).attempt == ARGV[2] then
  redis.call('HDEL', INTENTS, ARGV[1])
  redis.call('HDEL', OPEN, ARGV[1])
  redis.call('ZREM', AGES, ARGV[1])
end
return 'OK'
