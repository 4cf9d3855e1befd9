--- @include "events"
--- @include "records"
--- @include "requests"
--- @include "blocks"
--- @include "quarantine"
--- @include "allowances"
local function leaseOf(id)
  local name = nameOf(id)
  local record = redis.call('HGET', LEASES, name)
  return record and decodeLease(name, record)
end

local function save(lease)
  redis.call('HSET', LEASES, nameOf(lease.id), encodeLease(lease))
end

local function sessionOf(device)
  local record = redis.call('HGET', SESSIONS, device)
  return record and decodeSession(device, record)
end

local function saveSession(session)
  redis.call('HSET', SESSIONS, session.device, encodeSession(session))
end

-- Gives a changed lease its fence and publishes the event; the lease is to be stored after it.
local function announce(kind, lease, session)
  lease.fence = takeFence()
  publish(lease.fence, table.concat({ kind, nameOf(lease.id), session.id, encodeLease(lease) }, ' '))
end

-- A lease as commands answer it.
local function shown(lease, session)
  return table.concat({ lease.id, redis.call('HGET', META, 'pool'), session.id, encodeLease(lease) }, ' ')
end

-- A lease is over at its instant, whether or not a sweep has come by.
local function isOver(lease)
  return lease.expiresAtMs <= now or (lease.state == 'pending' and lease.pendingUntilMs <= now)
end

-- The device's lease, or nil when there is none, it is over, or it is another's.
local function heldBy(id, tenant, device)
  local lease = leaseOf(id)
  if lease and not isOver(lease) and lease.device == tenant .. '/' .. device then
    return lease
  end
  return nil
end

local function forgetSession(session)
  redis.call('HDEL', SESSIONS, session.device)
  redis.call('SETBIT', INDEXES, session.index, 0)
  redis.call('HDEL', HINTS, session.id)
end

local function leaveSession(session, lease)
  local name = nameOf(lease.id)
  local left = {}
  for _, other in ipairs(session.leases) do
    if other ~= name then
      left[#left + 1] = other
    end
  end
  session.leases = left
  if #left > 0 then
    saveSession(session)
  else
    forgetSession(session)
  end
end

-- Ends a lease: event, then the record goes, its slots cool, its session goes with the last lease, and its
-- id stays decided. Returns the lease as it is answered.
local function endLease(lease, reason)
  local session = sessionOf(lease.device)
  announce('ended ' .. reason, lease, session)
  redis.call('HDEL', LEASES, nameOf(lease.id))
  redis.call('ZREM', EXPIRIES, nameOf(lease.id))
  countLease(lease.device, -1)
  coolSlots(slotsOf(lease), lease.device)
  leaveSession(session, lease)
  remember(lease.id, 'C' .. (reason == 'withdrawn' and WITHDRAWN or REQUEST_ENDED) .. (reason == 'expired' and BY_TIME or ''))
  return shown(lease, session)
end
