#!lua flags=allow-oom
--[[
  Names the relay incarnation that may claim the anchor when its owner's claim has run out; holds the claim as a
  renewal does, so that whoever was the standby before is bound by its promises no longer than by this.

  KEYS  the anchor's (include/anchor.lua)
  ARGV  1 relay  2 epoch  3 standby relay, '' for none  4 its boot  5 ttlMs
  Events  none
  Returns milliseconds until the claim runs out, or STALE_EPOCH, QUARANTINED
]]
--- @include "ownership"
if quarantined() then
  return QUARANTINED
end
local current = owner()
-- 1. Epoch. (Idempotent as it stands.)
if current.relay ~= ARGV[1] or current.epoch ~= ARGV[2] then
  return STALE_EPOCH
end
-- 2. Change.
if ARGV[3] == '' then
  redis.call('HDEL', META, 'standby', 'standbyBoot')
else
  redis.call('HSET', META, 'standby', ARGV[3], 'standbyBoot', ARGV[4])
end
local untilMs = math.max(current.untilMs, now + ARGV[5])
holdUntil(untilMs)
return untilMs - now
