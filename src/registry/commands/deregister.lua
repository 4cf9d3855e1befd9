#!lua flags=allow-oom
--[[
  Ends a device's registration (RFC 3103 section 9.4); its leases have been freed before.

  KEYS  the device's (include/device.lua)
  ARGV  none
  Events  none
  Returns 1 when it was registered, else 0
]]
--- @include "device"
return redis.call('HDEL', INDEX, 'client')
