--[[
  Notes in a device's index what an anchor says that it holds. What is no index of ours is thrown away before.

  KEYS  the device's (include/device.lua)
  ARGV  pool, then the lease ids
  Events  none
  Returns OK
]]
--- @include "device"
local forms = { [HELD] = 'hash', [INTENTS] = 'hash', [AGES] = 'zset', [OPEN] = 'hash', [NOTES] = 'hash' }
for key, form in pairs(forms) do
  local is = redis.call('TYPE', key).ok
  if is ~= form and is ~= 'none' then
    redis.call('DEL', key)
  end
end
for at = 2, #ARGV do
  redis.call('HSETNX', HELD, ARGV[at], ARGV[1])
end
return 'OK'
