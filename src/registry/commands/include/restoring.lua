--- @include "sessions"
--- @include "wishes"
-- Makes the data of an anchor agree with what its owner has, after a quarantine. Slots that were handed out and
-- lost are found again by their resources.
local RESTORED_PENDING_MS = 10000
-- What two servers' clocks may differ by.
local SKEW_MS = 2000

local function counterIn(fence)
  return tonumber(string.match(fence, '%-(%d+)$'))
end

-- Data that never handed out a slot was emptied: its plan numbers them anew, and the leases follow the one before.
local function followPlan(plan)
  if plan and plan ~= '' and redis.call('HGET', META, 'frontier') == '0' and redis.call('HLEN', LEASES) == 0 then
    local of = cjson.decode(plan)
    redis.call('HSET', META, 'plan', plan, 'pool', of.pool, 'capacity', of.capacity, 'slots', of.slots)
  end
end

-- What was handed out or given back in the `lost` last events is not known: everything that is not leased rests
-- again, and so do as many fresh slots as may have been used. What still cools can have gone to its last device only; what
-- was cool, to anybody: it is nobody's any more.  spin: leases.rest
local function restAll(lost)
  local coolMs = whole(now + tonumber(redis.call('HGET', META, 'coolingMs')))
  local resting = redis.call('ZRANGEBYSCORE', COOLING, '-inf', '(' .. coolMs, 'WITHSCORES')
  for at = 1, #resting, 2 do
    if tonumber(resting[at + 1]) <= now + SKEW_MS then
      forgetSlot(resting[at])
    end
    redis.call('ZADD', COOLING, coolMs, resting[at])
  end
  local of = redis.call('HMGET', META, 'frontier', 'slots')
  local frontier = math.max(tonumber(of[1]), math.min(tonumber(of[1]) + lost, tonumber(of[2])))
  for slot = tonumber(of[1]), frontier - 1 do
    redis.call('ZADD', COOLING, coolMs, whole(slot))
  end
  redis.call('HSET', META, 'frontier', whole(frontier))
end

-- The slot of a lease's resources, where nobody has it: it rests, or was never handed out as far as this data knows.
local function unleasedSlotOf(plan, lease)
  local slot = slotOf(plan, hexOf(lease.address), tonumber(string.match(lease.ports, '^%d+')))
  local isFresh = slot and tonumber(slot) >= tonumber(redis.call('HGET', META, 'frontier'))
  return (isFresh or slot and redis.call('ZSCORE', COOLING, slot)) and slot
end

-- What an owner has, as it crosses; a lease's end is what is left of its life.
local function heldFrom(text)
  local id, session, record = string.match(text, '^(%S+) %S+ (%S+) (.*)$')
  local lease = decodeLease(nameOf(id), record)
  lease.session = session
  lease.remainingMs = lease.expiresAtMs
  return lease
end

-- The session that carries a device's leases at its owner. One that is stored instead of it was replaced.
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

-- `held` and `sessions` are the owner's, as of fence counter `counter`, of which the last `lost` are not in the data.
-- spin: leases.report
local function restore(held, sessions, counter, lost)
  local known = {}
  for _, lease in ipairs(held) do
    known[nameOf(lease.id)] = lease
  end
  -- 1. What the owner saw end.
  for _, name in ipairs(redis.call('HKEYS', LEASES)) do
    local lease = decodeLease(name, redis.call('HGET', LEASES, name))
    if not known[name] and counterIn(lease.fence) <= counter then
      endLease(lease, lease.state == 'pending' and 'withdrawn' or 'freed')
    end
  end
  if lost > 0 then
    restAll(lost)
  end
  -- 2. What it has and this data has not, or has not as late.
  local plan = cjson.decode(redis.call('HGET', META, 'plan'))
  local sessionsById = {}
  for _, text in ipairs(sessions) do
    local device, record = string.match(text, '^(%S+) (.*)$')
    local session = decodeSession(device, record)
    session.leases = {}
    sessionsById[session.id] = session
  end
  for _, lease in ipairs(held) do
    local stored = leaseOf(lease.id)
    local slot = stored and stored.slot or unleasedSlotOf(plan, lease)
    local session = sessionsById[lease.session]
    -- Also what was acknowledged before its event was heard of.
    local isActivated = stored and stored.state == 'pending' and lease.state == 'active'
    local isNews = not stored or counterIn(stored.fence) < counterIn(lease.fence) or isActivated
    if slot and session and isNews and lease.remainingMs > 0 then
      if not stored then
        takeSlot(slot)
      end
      session = restoreSession(session)
      lease.expiresAtMs = now + lease.remainingMs
      lease.slot = slot
      lease.request = stored and stored.request or 'restored:' .. lease.id
      lease.pendingUntilMs = now + RESTORED_PENDING_MS
      joinSession(session, lease)
      announce(lease.state == 'active' and 'activated' or 'extended', lease, session)
      save(lease)
      saveSession(session)
      local endsMs = lease.state == 'active' and lease.expiresAtMs or math.min(lease.expiresAtMs, lease.pendingUntilMs)
      redis.call('ZADD', EXPIRIES, whole(endsMs), nameOf(lease.id))
      redis.call('HSET', ANSWERS, lease.request, 'L' .. lease.id)
    end
  end
end

local function heldIn(json)
  local held = {}
  for at, text in ipairs(cjson.decode(json)) do
    held[at] = heldFrom(text)
  end
  return held
end

-- Ends a quarantine without its reporter, which is gone: with what it said last, so that its leases are not lost with it.
local function settleByReport()
  local of = redis.call(
    'HMGET', META, 'reportLeases', 'reportSessions', 'reportPlan', 'reportAtMs', 'reportCounter', 'counter'
  )
  if not of[1] then
    settle()
    restAll(FENCES_LOST)
    return
  end
  followPlan(of[3])
  settle()
  local held = heldIn(of[1])
  for _, lease in ipairs(held) do
    lease.remainingMs = lease.remainingMs - (now - tonumber(of[4]))
  end
  local counter = tonumber(of[5])
  restore(held, cjson.decode(of[2]), counter, math.max(0, counter - tonumber(of[6])))
end
