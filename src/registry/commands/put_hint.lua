--[[
  Keeps the last proven path of a session, behind the data path.

  KEYS  the anchor's (include/anchor.lua)
  ARGV  1 epoch  2 session  3 its device  4 device boot  5 generation  6 address  7 port
  Events  none
  Returns 1 when kept, 0 when the session is gone or the hint is not newer, or STALE_EPOCH
]]
--- @include "leases"
-- 1. Epoch.
if redis.call('HGET', META, 'epoch') ~= ARGV[1] then
  return STALE_EPOCH
end
-- 2. Order: generations count within an epoch and a device boot. Sent twice it is not newer.
local session = sessionOf(ARGV[3])
if not session or session.id ~= ARGV[2] then
  return 0
end
local epoch, boot, generation = string.match(redis.call('HGET', HINTS, ARGV[2]) or '', '^(%S+) (%S+) (%S+) ')
if epoch == ARGV[1] and boot == ARGV[4] and tonumber(generation) >= tonumber(ARGV[5]) then
  return 0
end
-- 3. Change: <epoch> <device boot> <generation> <address> <port>, as it crosses.
redis.call('HSET', HINTS, ARGV[2], table.concat({ ARGV[1], unpack(ARGV, 4, 7) }, ' '))
return 1
