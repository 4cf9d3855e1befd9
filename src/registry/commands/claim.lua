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
-- 0. A quarantine ends by the claim of whoever may claim by what is stored, if nobody has more to report.
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
-- 1. Idempotency: this incarnation owns it already.
if not endsQuarantine and current.relay == ARGV[1] and current.boot == ARGV[2] then
  holdUntil(math.max(current.untilMs, now + ARGV[3]))
  return current.epoch
end
-- 2. Who may. A relay that restarted need not wait for its own former claim; the standby waits for its end, any
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
-- 3. Change.  spin: ownership.claim  A quarantine ends with nothing less: the fences jump, and whoever follows must
--    hear of one beyond.
if endsQuarantine then
  if redis.call('HEXISTS', META, 'isRestored') == 0 then
    beginRestoring('claim')
    return RESTORING
  end
  endQuarantine()
end
return own(ARGV[1], ARGV[2], ARGV[3])
