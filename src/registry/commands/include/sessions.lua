--- @include "leases"
-- The counter goes round so soon: far longer than any datagram of a former holder lives, so no index needs to be kept
-- cooling. What says which are in use is no larger than 32 KiB.
local MOST_INDEXES = 262143

-- The next index that is not in use. At most 4,096 are: the loop ends.
local function takeIndex()
  repeat
    local index = whole((redis.call('HINCRBY', META, 'nextIndex', 1) - 1) % MOST_INDEXES + 1)
    if redis.call('SETBIT', INDEXES, index, 1) == 0 then
      return index
    end
  until false
end

-- The device has another key now: a new session takes the leases of the old one, which carries nothing any more.
local function replaceSession(old, id, thumbprint, salt)
  local session = {
    device = old.device,
    index = takeIndex(),
    id = id,
    thumbprint = thumbprint,
    salt = salt,
    replaces = old.id,
    leases = old.leases,
  }
  local fence = takeFence()
  publish(fence, 'session ' .. session.device .. ' ' .. encodeSession(session))
  for _, name in ipairs(old.leases) do
    local lease = decodeLease(name, redis.call('HGET', LEASES, name))
    lease.fence = fence
    save(lease)
  end
  forgetSession(old)
  saveSession(session)
  return session
end
