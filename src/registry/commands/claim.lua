#!lua flags=allow-oom
--[[
  Makes an incarnation of a relay the owner of an anchor.

  KEYS  the anchor's (include/anchor.lua)
  ARGV  1 relay  2 boot  3 ttlMs  4 '1' when an operator says so  5 the highest epoch that the relay had it under
  Events  owned, when the epoch rises
  Returns epoch, or UNDECLARED, OWNED_BY_ANOTHER, NOT_HOME, QUARANTINED, RESTORING: bring back what was held (restore) and
          claim again
]]
--- @include "ownership"
--- @include "restoring"
-- 0. An anchor that is still in layout 1 is nobody's here before its owner there has ceased. Whoever takes it up says what
--    it holds, as after a loss of everything.
local older = redis.call('TYPE', OLDER).ok == 'hash' and redis.call('HMGET', OLDER, 'owner', 'untilMs', 'epoch', 'counter')
if older then
  local of = redis.call('HMGET', META, 'home', 'epoch', 'counter', 'quarantineMs')
  if not of[1] then
    return UNDECLARED
  end
  if older[1] and older[1] ~= ARGV[1] and tonumber(older[2]) > now then
    return OWNED_BY_ANOTHER
  end
  if of[1] ~= ARGV[1] and older[1] ~= ARGV[1] and ARGV[4] ~= '1' then
    return NOT_HOME
  end
  redis.call('SET', OLDER, 'layout ' .. SCHEMA)
  local function above(one, other)
    return whole(math.max(tonumber(one or 0), tonumber(other or 0)))
  end
  beginQuarantine(tonumber(of[4]))
  redis.call('HSET', META, 'epoch', above(of[2], older[3]), 'counter', above(of[3], older[4]))
  return QUARANTINED
end
-- 1. A quarantine ends by the claim of whoever may claim by what is stored, if nobody has more to report.
--    spin: leases.quarantine.over
if not quarantined() and isBehind(ARGV[5]) then
  return QUARANTINED
end
local endsQuarantine = quarantined()
if redis.call('HEXISTS', META, 'restoring') == 1 then
  return RESTORING
end
if endsQuarantine and (not quarantineIsOver() or awaitsReportOf(ARGV[1])) then
  return QUARANTINED
end
local current = owner()
if not current.home then
  return UNDECLARED
end
-- 2. Idempotency: this incarnation owns it already.
if not endsQuarantine and current.relay == ARGV[1] and current.boot == ARGV[2] then
  holdUntil(math.max(current.untilMs, now + ARGV[3]))
  return current.epoch
end
-- 3. Who may. A relay that restarted need not wait for its own former claim; the standby waits for its end, any
--    other also for an operator.
if current.relay ~= ARGV[1] then
  if current.relay and current.untilMs > now then
    return OWNED_BY_ANOTHER
  end
  local isStandby = current.standby == ARGV[1] and current.standbyBoot == ARGV[2]
  if ARGV[4] ~= '1' and current.relay and not isStandby then
    return OWNED_BY_ANOTHER
  end
  if ARGV[4] ~= '1' and not current.relay and current.home ~= ARGV[1] then
    return NOT_HOME
  end
end
-- 4. Change.  spin: ownership.claim  A quarantine ends with nothing less: the fences jump, and whoever follows must
--    hear of one beyond.
if endsQuarantine then
  if redis.call('HEXISTS', META, 'isRestored') == 0 then
    beginRestoring('claim')
    return RESTORING
  end
  endQuarantine()
end
return own(ARGV[1], ARGV[2], ARGV[3])
