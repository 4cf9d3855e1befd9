--[[
  Notes in a device's index what anchors say that it holds. What is no index of ours is thrown away before.

  KEYS  the device's (include/device.lua)
  ARGV  1 pool  2 the highest bind id among them  3 server on which this is all that the pool's anchors hold, or ''
        then the lease ids
  Events  none
  Returns OK, or INDEX_BEHIND: another server answers by now
]]
--- @include "device"
--- @include "server"
if ARGV[3] ~= '' and ARGV[3] ~= server then
  return INDEX_BEHIND
end
local forms = { [HELD] = 'hash', [INTENTS] = 'hash', [AGES] = 'zset', [OPEN] = 'hash', [NOTES] = 'hash' }
for key, form in pairs(forms) do
  local is = redis.call('TYPE', key).ok
  if is ~= form and is ~= 'none' then
    redis.call('DEL', key)
  end
end
for at = 4, #ARGV do
  redis.call('HSETNX', HELD, ARGV[at], ARGV[1])
end
if tonumber(redis.call('HGET', NOTES, 'bindId') or 0) < tonumber(ARGV[2]) then
  redis.call('HSET', NOTES, 'bindId', ARGV[2])
end
if ARGV[3] ~= '' then
  redis.call('HSET', NOTES, 'whole:' .. ARGV[1], server)
end
return 'OK'
