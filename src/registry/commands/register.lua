--[[
  Registers a device, or says that it is registered (RFC 3103 section 9.2). A registration lasts at least as long as every lease
  that the device holds (section 6).

  KEYS  the device's (include/device.lua)
  ARGV  1 client id, used when it is not registered, or 0: only look  2 milliseconds of a new registration
        3 milliseconds that its longest lease has left, 0 for none
  Events  none
  Returns {client id or 0, milliseconds left, 1 when it is new}
]]
--- @include "device"
local client, untilMs = string.match(redis.call('HGET', INDEX, 'client') or '', '^(%d+) (%d+)$')
local boundMs = tonumber(ARGV[3])
-- 1. Idempotency: the registration stands.
if client and (tonumber(untilMs) > now or boundMs > 0) then
  return { tonumber(client), math.max(tonumber(untilMs) - now, boundMs), 0 }
end
if ARGV[1] == '0' then
  return { 0, 0, 0 }
end
-- 2. Change.
local leftMs = math.max(tonumber(ARGV[2]), boundMs)
redis.call('HSET', INDEX, 'client', ARGV[1] .. ' ' .. whole(now + leftMs))
return { tonumber(ARGV[1]), leftMs, 1 }
