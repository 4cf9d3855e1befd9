#!lua flags=allow-oom
--[[
  Holds a claim for another while. Also a claim that has run out: nobody else claimed since, or the epoch would
  have risen.

  KEYS  the anchor's (include/anchor.lua)
  ARGV  1 relay  2 epoch  3 ttlMs
  Events  none
  Returns milliseconds until the claim runs out, or UNDECLARED, STALE_EPOCH, QUARANTINED
]]
--- @include "ownership"
if quarantined() or isBehind(ARGV[2]) then
  return QUARANTINED
end
local current = owner()
if not current.home then
  return UNDECLARED
end
-- 1. Epoch. (Idempotent as it stands: sent twice it holds until the later instant.)
if current.relay ~= ARGV[1] or current.epoch ~= ARGV[2] then
  return STALE_EPOCH
end
-- 2. Change: never to an earlier instant.  spin: ownership.renew
local untilMs = math.max(current.untilMs, now + ARGV[3])
holdUntil(untilMs)
return untilMs - now
