#!lua flags=allow-oom
--[[
  Notes in a device's index that leases have ended. Lease ids are never used again, so this cannot hit a new one.

  KEYS  the device's (include/device.lua)
  ARGV  lease ids
  Events  none
  Returns OK
]]
--- @include "device"
for _, lease in ipairs(ARGV) do
  local state, pool = readNote(redis.call('HGET', INDEX, lease) or '')
  if state and state ~= '-' then
    redis.call('HSET', INDEX, lease, '-' .. pool .. ' ' .. whole(now), 'last:' .. pool, anchorIn(lease))
  end
end
return 'OK'
