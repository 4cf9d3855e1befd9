--- @include "leases"
local function sessionOf(device)
  local id = redis.call('HGET', DEVICES, device)
  return id and cjson.decode(redis.call('HGET', SESSIONS, id))
end

-- The next index of 24 bits that is not in use. The counter goes round once in 2^24 sessions, far longer than
-- any datagram of a former holder lives, so no index needs to be kept cooling. At most 4,096 are in use: the
-- loop ends.
local function takeIndex(id)
  repeat
    local index = (redis.call('HINCRBY', META, 'nextIndex', 1) - 1) % 16777215 + 1
    if redis.call('HSETNX', INDEXES, whole(index), id) == 1 then
      return index
    end
  until false
end

local function saveSession(session, json)
  redis.call('HSET', SESSIONS, session.id, json)
  redis.call('HSET', DEVICES, deviceKey(session.device), session.id)
end

-- The device has another key now: a new session takes the leases of the old one, which carries nothing any more.
local function replaceSession(old, id, thumbprint, salt)
  local session = {
    id = id,
    index = takeIndex(id),
    device = old.device,
    thumbprint = thumbprint,
    salt = salt,
    leases = old.leases,
    replaces = old.id,
  }
  local fence = takeFence()
  local json = cjson.encode(session)
  publish(fence, 'session', ',"session":' .. json .. ',"replaces":"' .. old.id .. '"')
  for _, lease in ipairs(old.leases) do
    local record = leaseOf(lease)
    record.session = id
    record.fence = fence
    save(record, cjson.encode(record))
  end
  redis.call('HDEL', SESSIONS, old.id)
  redis.call('HDEL', INDEXES, whole(old.index))
  redis.call('HDEL', HINTS, old.id)
  saveSession(session, json)
  return session
end
