#!lua flags=allow-oom
--[[
  Planned hand-over: the owner gives the anchor to another incarnation, under the next epoch, and stands by for it until
  that one names its own standby: it may die before it takes the anchor up.

  KEYS  the anchor's (include/anchor.lua)
  ARGV  1 relay that gives  2 its epoch  3 relay that takes  4 its boot  5 ttlMs
  Events  owned
  Returns epoch, or UNDECLARED, STALE_EPOCH, QUARANTINED
]]
--- @include "ownership"
if quarantined() or isBehind(ARGV[2]) then
  return QUARANTINED
end
local current = owner()
if not current.home then
  return UNDECLARED
end
-- 1. Idempotency: this very hand-over has happened.
if current.relay == ARGV[3] and current.boot == ARGV[4] and tonumber(current.epoch) == ARGV[2] + 1 then
  return current.epoch
end
-- 2. Epoch.
if current.relay ~= ARGV[1] or current.epoch ~= ARGV[2] then
  return STALE_EPOCH
end
-- 3. Change.  spin: ownership.hand-over
local epoch = own(ARGV[3], ARGV[4], ARGV[5])
redis.call('HSET', META, 'standby', ARGV[1], 'standbyBoot', current.boot)
return epoch
