#!lua flags=allow-oom
--[[
  The owner says what it holds, because another server answers than wrote the anchor's data. Its word counts when
  nobody reports a higher fence while the quarantine lasts: whoever has read the most of what may be lost. At once, without waiting for its end, when nobody else
  can own the anchor: this incarnation is the stored owner, and neither the data nor it knows of a standby.

  KEYS  the anchor's (include/anchor.lua)
  ARGV  1 relay  2 boot  3 epoch and  4 counter of the last fence that it has seen  5 ttlMs  6 '1' when it has, or had
        under its claim, a standby  7 the plan that its leases follow, as it was stored, or ''  8 as what it knows this: owner;
        former, whose anchor has gone to another since; standby, which has only followed
  Events  owned: once it counts
  Returns epoch, or UNTOLD: say what is held (tell) and report again, RESTORING: bring that back (restore) and report
          again, QUARANTINED: report again, STALE_EPOCH
]]
--- @include "ownership"
--- @include "restoring"
local relay, boot = ARGV[1], ARGV[2]
-- 1. Idempotency: settled already.
if not quarantined() then
  local current = owner()
  return current.relay == relay and current.boot == boot and current.epoch or STALE_EPOCH
end
if redis.call('HEXISTS', META, 'restoring') == 1 then
  return RESTORING
end
-- 2. The highest report counts.  spin: ownership.report
local known = redis.call('HMGET', META, 'reportEpoch', 'reportRelay', 'reportBoot', 'reportCounter', 'reportAs')
local current = owner()
-- Who has it no more, or never had, may go on with it where a claim would be granted.
local isStandby = current.standby == relay and current.standbyBoot == boot
if ARGV[8] ~= 'owner' and current.relay and current.relay ~= relay and not isStandby then
  return QUARANTINED
end
local function outdoes()
  local epoch, counter = tonumber(ARGV[3]), tonumber(ARGV[4])
  local ofKnown = { tonumber(known[1] or 0), tonumber(known[4] or 0) }
  if epoch ~= ofKnown[1] then
    return epoch > ofKnown[1]
  end
  -- Who has only followed may have read more, and does not know what was acknowledged.
  if (ARGV[8] == 'standby') ~= (known[5] == 'standby') then
    return known[5] == 'standby'
  end
  -- As much is known by two: the owner alone knows what it has acknowledged since.
  return known[2] == relay or counter > ofKnown[2] or counter == ofKnown[2] and current.relay == relay
end
if not known[1] or outdoes() then
  -- What it holds changes with its counter only.
  if known[1] ~= ARGV[3] or known[2] ~= relay or known[3] ~= boot or known[4] ~= ARGV[4] then
    forgetReport()
    redis.call('HSET', META, 'reportPlan', ARGV[7] or '', 'reportAtMs', whole(now), 'reportAs', ARGV[8])
  end
  redis.call(
    'HSET', META, 'reportEpoch', ARGV[3], 'reportRelay', relay, 'reportBoot', boot, 'reportCounter', ARGV[4],
    'reportUntilMs', whole(now + ARGV[5])
  )
  if redis.call('HEXISTS', META, 'reportIsTold') == 0 then
    return UNTOLD
  end
end
-- 3. Not while somebody may rely on what is lost.
local alone = ARGV[6] ~= '1' and not current.standby and current.relay == relay and current.boot == boot
if not alone and not quarantineIsOver() then
  return QUARANTINED
end
-- 4. Change.
local highest = redis.call('HMGET', META, 'reportRelay', 'reportBoot')
-- Whoever reported more ends the quarantine, with what it holds.
if highest[1] ~= relay or highest[2] ~= boot then
  return STALE_EPOCH
end
beginRestoring('report')
redis.call('HSET', META, 'owner', relay, 'boot', boot)
redis.call('HDEL', META, 'standby', 'standbyBoot')
holdUntil(now + ARGV[5])
publish(takeFence(), 'owned ' .. relay)
return RESTORING
