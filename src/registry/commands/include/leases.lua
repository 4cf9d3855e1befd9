--- @include "events"
--- @include "requests"
--- @include "slots"
--- @include "quarantine"
local function leaseOf(id)
  local json = redis.call('HGET', LEASES, id)
  return json and cjson.decode(json)
end

local function save(lease, json)
  redis.call('HSET', LEASES, lease.id, json)
end

-- Gives a changed lease its fence and publishes the event. Returns the record's JSON, to be stored after it.
local function announce(kind, lease, members)
  lease.fence = takeFence()
  local json = cjson.encode(lease)
  publish(lease.fence, kind, ',"lease":' .. json .. members)
  return json
end

local function deviceKey(device)
  return device.tenant .. '/' .. device.id
end

-- A lease is over at its instant, whether or not a sweep has come by.
local function isOver(lease)
  return lease.expiresAtMs <= now or (lease.state == 'pending' and lease.pendingUntilMs <= now)
end

-- The device's lease, or nil when there is none, it is over, or it is another's.
local function heldBy(id, tenant, device)
  local lease = leaseOf(id)
  if lease and not isOver(lease) and lease.device.tenant == tenant and lease.device.id == device then
    return lease
  end
  return nil
end

local function leaveSession(lease)
  local session = cjson.decode(redis.call('HGET', SESSIONS, lease.session))
  local left = {}
  for _, id in ipairs(session.leases) do
    if id ~= lease.id then
      left[#left + 1] = id
    end
  end
  if #left > 0 then
    session.leases = left
    redis.call('HSET', SESSIONS, session.id, cjson.encode(session))
  else
    redis.call('HDEL', SESSIONS, session.id)
    redis.call('HDEL', DEVICES, deviceKey(lease.device))
    redis.call('HDEL', INDEXES, whole(session.index))
    redis.call('HDEL', HINTS, session.id)
  end
end

-- Ends a lease: event, then the record goes, its slot cools, its session goes with the last lease, and its
-- request stays decided. Returns the event's lease as JSON.
local function endLease(lease, reason)
  local last = announce('ended', lease, ',"reason":"' .. reason .. '"')
  redis.call('HDEL', LEASES, lease.id)
  redis.call('ZREM', EXPIRIES, lease.id)
  coolSlot(lease.slot, deviceKey(lease.device))
  leaveSession(lease)
  remember(lease.request, 'C' .. (reason == 'withdrawn' and WITHDRAWN or REQUEST_ENDED))
  return last
end
