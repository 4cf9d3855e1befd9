#!lua flags=allow-oom
--[[
  Gives a claim up: the anchor is without owner, its epoch stays taken.

  KEYS  the anchor's (include/anchor.lua)
  ARGV  1 relay  2 epoch
  Events  none
  Returns OK, or STALE_EPOCH, QUARANTINED
]]
--- @include "ownership"
if quarantined() then
  return QUARANTINED
end
local current = owner()
-- 1. Idempotency: given up already, and nobody has claimed since.
if not current.relay and current.epoch == ARGV[2] then
  return 'OK'
end
-- 2. Epoch.
if current.relay ~= ARGV[1] or current.epoch ~= ARGV[2] then
  return STALE_EPOCH
end
-- 3. Change.
redis.call('HDEL', META, 'owner', 'boot', 'untilMs', 'standby', 'standbyBoot')
return 'OK'
