--- @include "sessions"
--- @include "wishes"
--- @include "missed"
-- Makes the data of an anchor agree with what its owner has, after a quarantine, some of it at a time: until all is done
-- the quarantine lasts. META says how far it is: restoring, '<report or claim> <step> <cursor>', one step after the other:
--   ended   what the owner saw end
--   rest    what may have been handed out or given back, and is not known, rests again
--   held    what it has and this data has not, or has not as late
--   doubted what may have been acknowledged by an owner that has not said so
-- Slots that were handed out and lost are found again by their resources.
local RESTORED_PENDING_MS = 10000
-- What two servers' clocks may differ by.
local SKEW_MS = 2000

local function counterIn(fence)
  return tonumber(string.match(fence, '%-(%d+)$'))
end

-- Data that never handed out a slot was emptied: its plan numbers them anew, and the leases follow the one before. Data of
-- before the anchor grew: what was added since has further slots.
local function followPlan(plan)
  if not plan or plan == '' then
    return
  end
  local of = cjson.decode(plan)
  local stored = redis.call('HGET', META, 'plan')
  local known = stored and cjson.decode(stored)
  local isEmptied = redis.call('HGET', META, 'frontier') == '0' and redis.call('HLEN', LEASES) == 0
  local hasGrown = known and of.slots > known.slots and table.concat(of.key, ' ') == table.concat(known.key, ' ')
  if isEmptied or hasGrown then
    redis.call('HSET', META, 'plan', plan, 'pool', of.pool, 'capacity', of.capacity, 'slots', of.slots)
  end
end

-- A reporter whose epoch is raised above this data's has ended a quarantine of which this data knows nothing: what that one did without
-- may be brought back still.
local function noteLostEnd(reportEpoch, wholeCounter)
  if reportEpoch - tonumber(redis.call('HGET', META, 'epoch')) >= EPOCHS_LOST then
    noteMissed(reportEpoch, wholeCounter)
  end
end

-- `how`: by a report, or by a claim whose reporter, if there was one, is gone.
local function beginRestoring(how)
  local of = redis.call('HMGET', META, 'reportIsTold', 'reportPlan', 'reportCounter', 'wholeCounter', 'coolingMs', 'reportAs', 'reportEpoch')
  if of[1] then
    followPlan(of[2])
  end
  local isInDoubt = not of[1] or of[6] ~= 'owner'
  local lost = isInDoubt and FENCES_LOST or math.max(0, tonumber(of[3]) - tonumber(of[4]))
  noteLostEnd(of[1] and tonumber(of[7]) or 0, tonumber(of[4] or 0))
  raise()
  noteMissed(tonumber(redis.call('HGET', META, 'epoch')), math.max(tonumber(of[4] or 0), of[1] and tonumber(of[3]) or 0))
  -- Indexes that sessions may have which somebody brings back later.
  redis.call('HINCRBY', META, 'nextIndex', FENCES_LOST)
  if isInDoubt then
    redis.call('HSET', META, 'isInDoubt', '1')
  end
  if lost > 0 then
    local at = redis.call('HMGET', META, 'frontier', 'slots')
    -- Where blocks may double, slots were passed over: any may have been handed out.
    local plan = redis.call('HGET', META, 'plan')
    local most = plan and mostBlocks(cjson.decode(plan)) > 1 and tonumber(at[2]) or tonumber(at[1]) + lost
    local to = math.max(tonumber(at[1]), math.min(most, tonumber(at[2])))
    redis.call('HSET', META, 'restMs', whole(now + tonumber(of[5])), 'restTo', whole(to))
  end
  redis.call('HSET', META, 'restoring', how .. (of[1] and ' ended 0' or ' rest 0'))
end

-- Each step does some and returns where it goes on, '0' when it is through.

local function restoreEnded(cursor, limit)
  local counter = tonumber(redis.call('HGET', META, 'reportCounter'))
  local page = redis.call('HSCAN', LEASES, cursor, 'COUNT', limit)
  for at = 1, #page[2], 2 do
    local name = page[2][at]
    local lease = decodeLease(name, page[2][at + 1])
    local isKnown = redis.call('HEXISTS', REPORT, name) == 1
    if not isKnown and counterIn(lease.fence) <= counter then
      endLease(lease, lease.state == 'pending' and 'withdrawn' or 'freed')
    end
  end
  return page[1]
end

-- Everything that is not leased, and as many fresh slots as may have been used. What still cools can have gone to its last
-- device only; what was cool, to anybody: it is nobody's any more.  spin: leases.rest
local function restAll(_, limit)
  local restMs, restTo = unpack(redis.call('HMGET', META, 'restMs', 'restTo'))
  if not restMs then
    return '0'
  end
  local resting = redis.call('ZRANGEBYSCORE', COOLING, '-inf', '(' .. restMs, 'WITHSCORES', 'LIMIT', 0, limit)
  for at = 1, #resting, 2 do
    if tonumber(resting[at + 1]) <= now + SKEW_MS then
      forgetSlot(resting[at])
    end
    redis.call('ZADD', COOLING, restMs, resting[at])
  end
  local frontier = tonumber(redis.call('HGET', META, 'frontier'))
  local to = math.min(math.max(tonumber(restTo), frontier), frontier + limit)
  for slot = frontier, to - 1 do
    redis.call('ZADD', COOLING, restMs, whole(slot))
  end
  redis.call('HSET', META, 'frontier', whole(to))
  return #resting < 2 * limit and to >= tonumber(restTo) and '0' or '1'
end

-- The slots of a lease's resources that it has not in this data, where nobody has any of them: they rest, or were never handed out as
-- far as this data knows.
local function lostSlots(plan, stored, lease)
  local held, lost = {}, {}
  for _, slot in ipairs(stored and slotsIn(plan, stored) or {}) do
    held[slot] = true
  end
  local frontier = tonumber(redis.call('HGET', META, 'frontier'))
  for _, slot in ipairs(slotsIn(plan, lease)) do
    if not held[slot] then
      if tonumber(slot) < frontier and not redis.call('ZSCORE', COOLING, slot) then
        return nil
      end
      lost[#lost + 1] = slot
    end
  end
  return lost
end

-- A lease that an owner has, as it crosses: its end is what was left of its life when it was said.
local function heldFrom(text, saidMs)
  local id, session, record = string.match(text, '^(%S+) %S+ (%S+) (.*)$')
  local lease = decodeLease(nameOf(id), record)
  lease.session = session
  lease.remainingMs = lease.expiresAtMs - (now - saidMs)
  return lease
end

-- The session that carries a device's leases at its owner, or nil. One that is stored instead of it was replaced.
local function reportedSession(lease)
  local record = redis.call('HGET', REPORT, lease.device)
  local session = record and decodeSession(lease.device, record)
  if not session or session.id ~= lease.session then
    return nil
  end
  session.leases = {}
  return session
end

local function restoreSession(session)
  local other = sessionOf(session.device)
  if other and other.id == session.id then
    return other
  end
  if other then
    session.leases = other.leases
    forgetSession(other)
  end
  redis.call('SETBIT', INDEXES, session.index, 1)
  local next = tonumber(redis.call('HGET', META, 'nextIndex') or 0)
  redis.call('HSET', META, 'nextIndex', whole(math.max(next, session.index)))
  return session
end

local function joinSession(session, lease)
  local name = nameOf(lease.id)
  for _, other in ipairs(session.leases) do
    if other == name then
      return
    end
  end
  session.leases[#session.leases + 1] = name
end

-- This data, or what earlier quarantines made of it, was to have the lease: that it has not says that the lease has ended since,
-- of which whoever reports has not heard.
local function hasEnded(wholeCounter, missed, lease)
  local counter = counterIn(lease.fence)
  return counter <= wholeCounter and not missing(missed, tonumber(string.match(lease.fence, '^%d+')), counter)
end

-- Until now it was forwarded for.
local function restAnew(slots)
  local coolMs = whole(now + tonumber(redis.call('HGET', META, 'coolingMs')))
  for _, slot in ipairs(slots) do
    redis.call('ZADD', COOLING, 'XX', 'GT', coolMs, slot)
  end
end

-- spin: leases.report
local function restoreLease(plan, wholeCounter, missed, lease)
  local stored = leaseOf(lease.id)
  local first, count = portsIn(lease.ports)
  lease.slot = stored and stored.slot or slotOf(plan, hexOf(lease.address), first)
  -- A port block never becomes smaller: one that doubled and whose owner has not heard of it stays.
  if stored and first and select(2, portsIn(stored.ports)) > count then
    lease.ports = stored.ports
  end
  local lost = lease.slot and lostSlots(plan, stored, lease)
  if not stored and hasEnded(wholeCounter, missed, lease) then
    restAnew(lost or {})
    return
  end
  local session = reportedSession(lease)
  -- Also what was acknowledged before its event was heard of.
  local isActivated = stored and stored.state == 'pending' and lease.state == 'active'
  -- And an end that its owner has put off while nobody could extend it.
  local isLater = stored and lease.remainingMs > stored.expiresAtMs - now + SKEW_MS
  local isNews = not stored
    or counterIn(stored.fence) < counterIn(lease.fence)
    or stored.fence == lease.fence and isLater
    or isActivated
  if lost and session and isNews and lease.remainingMs > 0 then
    takeMoreSlots(lost)
    countExtraSlots(stored and 0 or -1)
    if not stored then
      countLease(lease.device, 1)
    end
    session = restoreSession(session)
    lease.expiresAtMs = now + lease.remainingMs
    lease.pendingUntilMs = now + RESTORED_PENDING_MS
    joinSession(session, lease)
    announce(lease.state == 'active' and 'activated' or 'extended', lease, session)
    save(lease)
    saveSession(session)
    local endsMs = lease.state == 'active' and lease.expiresAtMs or math.min(lease.expiresAtMs, lease.pendingUntilMs)
    redis.call('ZADD', EXPIRIES, whole(endsMs), nameOf(lease.id))
  end
end

-- Nobody who knows has said which of the pending leases are acknowledged: each may be.
local function restoreDoubted(cursor, limit)
  if redis.call('HEXISTS', META, 'isInDoubt') == 0 then
    return '0'
  end
  local page = redis.call('HSCAN', LEASES, cursor, 'COUNT', limit)
  for at = 1, #page[2], 2 do
    local lease = decodeLease(page[2][at], page[2][at + 1])
    if lease.state == 'pending' then
      lease.state = 'active'
      announce('activated', lease, sessionOf(lease.device))
      save(lease)
      redis.call('ZADD', EXPIRIES, whole(lease.expiresAtMs), page[2][at])
    end
  end
  return page[1]
end

local function restoreHeld(cursor, limit)
  local of = redis.call('HMGET', META, 'plan', 'reportAtMs', 'wholeCounter')
  local plan, missed = cjson.decode(of[1]), eachMissed()
  local page = redis.call('HSCAN', REPORT, cursor, 'COUNT', limit)
  for at = 1, #page[2], 2 do
    -- Names of leases have no slash, devices have one.
    if not string.find(page[2][at], '/', 1, true) then
      restoreLease(plan, tonumber(of[3]), missed, heldFrom(page[2][at + 1], tonumber(of[2])))
    end
  end
  return page[1]
end

local STEPS = { ended = restoreEnded, rest = restAll, held = restoreHeld, doubted = restoreDoubted }
local AFTER = { ended = 'rest', rest = 'held', held = 'doubted' }

-- Does some of it. False when that was all.
local function restoreSome(limit)
  local how, step, cursor = string.match(redis.call('HGET', META, 'restoring'), '^(%S+) (%S+) (%S+)$')
  cursor = STEPS[step](cursor, limit)
  if cursor == '0' then
    step = AFTER[step]
  end
  if step then
    redis.call('HSET', META, 'restoring', how .. ' ' .. step .. ' ' .. cursor)
    return true
  end
  if how == 'report' then
    endQuarantine()
  else
    forgetReport()
    redis.call('HSET', META, 'isRestored', '1')
  end
  return false
end
