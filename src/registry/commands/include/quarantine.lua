--- @include "anchor"
--- @include "server"
-- Another server than wrote an anchor's data answers: after a fail-over, a restart, a restored backup. The last of
-- the data may be lost, so nothing is changed and nothing is believed until whoever owns the anchor has said what
-- it holds, and until nobody can still rely on what is lost.
local EPOCHS_LOST = 65536
local FENCES_LOST = 1000

local function forgetReport()
  redis.call(
    'HDEL', META, 'reportEpoch', 'reportRelay', 'reportBoot', 'reportCounter', 'reportUntilMs',
    'reportPlan', 'reportAtMs', 'reportIsTold', 'reportAs', 'restoring', 'restMs', 'restTo', 'isInDoubt', 'isRestored'
  )
  redis.call('UNLINK', REPORT)
end

-- One may begin before another is done with: what was whole before the first still is all that is.
local function beginQuarantine(ms)
  redis.call('HSETNX', META, 'wholeCounter', redis.call('HGET', META, 'counter') or 0)
  redis.call('HSET', META, 'server', server, 'quarantineUntilMs', whole(now + ms))
  redis.call('HDEL', META, 'isRaised')
  forgetReport()
end

-- True: refuse. It begins with the first script that sees the other server.  spin: ownership.fail-over
local function quarantined()
  local of = redis.call('HMGET', META, 'server', 'quarantineUntilMs', 'quarantineMs')
  if of[1] and of[1] ~= server then
    beginQuarantine(tonumber(of[3]))
    return true
  end
  return of[2] ~= false
end

-- True: refuse. Whoever had the anchor under a higher epoch than the stored one knows more than this data: it was emptied,
-- or put back to an older state under the same server.
local function isBehind(epoch)
  local of = redis.call('HMGET', META, 'epoch', 'quarantineMs')
  if not of[1] or tonumber(of[1]) >= tonumber(epoch or 0) then
    return false
  end
  beginQuarantine(tonumber(of[2]))
  return true
end

local function quarantineIsOver()
  return tonumber(redis.call('HGET', META, 'quarantineUntilMs')) <= now
end

-- Whoever reported last will do so again, with all that it holds: another that ended the quarantine before would have
-- the data stay without it. A reporter that is gone is waited for no longer than a claim lasts.
local function awaitsReportOf(other)
  local of = redis.call('HMGET', META, 'reportRelay', 'reportUntilMs')
  return of[1] and of[1] ~= other and tonumber(of[2]) > now
end

-- Epoch and counter above all that can have been given away and lost: once in a quarantine.  spin: ownership.settle
local function raise()
  local of = redis.call('HMGET', META, 'epoch', 'counter', 'reportEpoch', 'reportCounter', 'isRaised')
  if of[5] and tonumber(of[3] or 0) < tonumber(of[1]) and tonumber(of[4] or 0) < tonumber(of[2]) then
    return
  end
  -- The instant too, also where an epoch is ahead of it: two fail-overs may both go on from data of before the first.
  local epoch = math.max(tonumber(of[1]), tonumber(of[3] or 0), now) + EPOCHS_LOST + now % EPOCHS_LOST
  local counter = math.max(tonumber(of[2]), tonumber(of[4] or 0)) + FENCES_LOST
  redis.call('HSET', META, 'epoch', whole(epoch), 'counter', whole(counter), 'isRaised', '1')
end

local function endQuarantine()
  redis.call('HDEL', META, 'quarantineUntilMs', 'isRaised', 'wholeCounter')
  forgetReport()
end
