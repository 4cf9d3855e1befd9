--- @include "sessions"
--- @include "resources"
-- Makes the data of an anchor agree with what its owner has, after a quarantine. Slots that were handed out and
-- lost are found again by their resources, among those that rest.
local RESTORED_PENDING_MS = 10000

local function counterIn(fence)
  return tonumber(string.match(fence, '%-(%d+)$'))
end

-- Data that never handed out a slot was emptied: its plan numbers them anew, and the leases follow the one before.
local function followPlan(plan)
  if plan and plan ~= '' and redis.call('HGET', META, 'frontier') == '0' and redis.call('HLEN', LEASES) == 0 then
    local of = cjson.decode(plan)
    redis.call('HSET', META, 'plan', plan, 'capacity', of.capacity, 'slots', of.slots)
  end
end

-- What was handed out or given back in the `lost` last events is not known: everything that is not leased rests
-- again, and so do as many fresh slots as may have been used.
local function restAll(lost)
  local coolMs = whole(now + tonumber(redis.call('HGET', META, 'coolingMs')))
  for _, slot in ipairs(redis.call('ZRANGE', COOLING, 0, -1)) do
    redis.call('ZADD', COOLING, 'GT', coolMs, slot)
  end
  local of = redis.call('HMGET', META, 'frontier', 'slots')
  local frontier = math.max(tonumber(of[1]), math.min(tonumber(of[1]) + lost, tonumber(of[2])))
  for slot = tonumber(of[1]), frontier - 1 do
    redis.call('ZADD', COOLING, coolMs, whole(slot))
    redis.call('HSET', FORMER, 's:' .. whole(slot), '-')
  end
  redis.call('HSET', META, 'frontier', whole(frontier))
end

local function resourceName(of)
  return of.address .. ' ' .. (type(of.ports) == 'table' and whole(of.ports.first) or '-')
end

-- Slots that rest, by what they stand for.
local function restingSlots(plan, kind)
  local slots = {}
  for _, slot in ipairs(redis.call('ZRANGE', COOLING, 0, -1)) do
    slots[resourceName(resourcesOf(plan, slot, kind))] = slot
  end
  return slots
end

-- The session that carries a device's leases at its owner. One that is stored instead of it was replaced.
local function restoreSession(session)
  if redis.call('HEXISTS', SESSIONS, session.id) == 1 then
    return
  end
  session.leases = {}
  local other = sessionOf(deviceKey(session.device))
  if other then
    for _, id in ipairs(other.leases) do
      local lease = leaseOf(id)
      lease.session = session.id
      save(lease, cjson.encode(lease))
    end
    session.leases = other.leases
    redis.call('HDEL', SESSIONS, other.id)
    redis.call('HDEL', INDEXES, whole(other.index))
    redis.call('HDEL', HINTS, other.id)
  end
  redis.call('HSET', INDEXES, whole(session.index), session.id)
  local next = tonumber(redis.call('HGET', META, 'nextIndex') or 0)
  redis.call('HSET', META, 'nextIndex', whole(math.max(next, session.index)))
  saveSession(session, cjson.encode(session))
end

local function joinSession(lease)
  local session = cjson.decode(redis.call('HGET', SESSIONS, lease.session))
  for _, id in ipairs(session.leases) do
    if id == lease.id then
      return
    end
  end
  session.leases[#session.leases + 1] = lease.id
  redis.call('HSET', SESSIONS, session.id, cjson.encode(session))
end

-- `held` and `sessions` are the owner's, as of fence counter `counter`, of which the last `lost` are not in the data.
-- spin: leases.report
local function restore(held, sessions, counter, lost)
  local known = {}
  for _, lease in ipairs(held) do
    known[lease.id] = lease
  end
  -- 1. What the owner saw end.
  for _, id in ipairs(redis.call('HKEYS', LEASES)) do
    local lease = leaseOf(id)
    if not known[id] and counterIn(lease.fence) <= counter then
      endLease(lease, lease.state == 'pending' and 'withdrawn' or 'freed')
    end
  end
  if lost > 0 then
    restAll(lost)
  end
  -- 2. What it has and this data has not, or has not as late.
  local plan = cjson.decode(redis.call('HGET', META, 'plan'))
  local sessionsById = {}
  for _, session in ipairs(sessions) do
    sessionsById[session.id] = session
  end
  local resting
  for _, lease in ipairs(held) do
    local stored = leaseOf(lease.id)
    if not stored and not resting then
      resting = restingSlots(plan, lease.kind)
    end
    local slot = stored and stored.slot or resting[resourceName(lease)]
    local session = sessionsById[lease.session]
    -- Also what was acknowledged before its event was heard of.
    local isActivated = stored and stored.state == 'pending' and lease.state == 'active'
    local isNews = not stored or counterIn(stored.fence) < counterIn(lease.fence) or isActivated
    if slot and session and isNews and lease.remainingMs > 0 then
      if not stored then
        takeSlot(slot)
      end
      restoreSession(session)
      lease.expiresAtMs = now + lease.remainingMs
      lease.remainingMs = nil
      lease.slot = slot
      lease.request = stored and stored.request or 'restored:' .. lease.id
      lease.pendingUntilMs = now + RESTORED_PENDING_MS
      local json = announce(lease.state == 'active' and 'activated' or 'extended', lease, '')
      save(lease, json)
      joinSession(lease)
      local endsMs = lease.state == 'active' and lease.expiresAtMs or math.min(lease.expiresAtMs, lease.pendingUntilMs)
      redis.call('ZADD', EXPIRIES, whole(endsMs), lease.id)
      redis.call('HSET', ANSWERS, lease.request, 'L' .. lease.id)
    end
  end
end

-- Ends a quarantine without its reporter, which is gone: with what it said last, so that its leases are not lost with it.
local function settleByReport()
  local of = redis.call(
    'HMGET', META, 'reportLeases', 'reportSessions', 'reportPlan', 'reportAtMs', 'reportCounter', 'counter'
  )
  if not of[1] then
    settle()
    return
  end
  followPlan(of[3])
  settle()
  local held = cjson.decode(of[1])
  for _, lease in ipairs(held) do
    lease.remainingMs = lease.remainingMs - (now - tonumber(of[4]))
  end
  local counter = tonumber(of[5])
  restore(held, cjson.decode(of[2]), counter, math.max(0, counter - tonumber(of[6])))
end
