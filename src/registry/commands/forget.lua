--[[
  Takes ended leases out of a device's index. Lease ids are never used again, so this cannot hit a new one.

  KEYS  the device's (include/device.lua)
  ARGV  lease ids
  Events  none
  Returns OK
]]
--- @include "device"
redis.call('HDEL', HELD, unpack(ARGV))
return 'OK'
