#!lua flags=allow-oom
--[[
  The owner has installed pending leases: it forwards from now on.

  KEYS  the anchor's (include/anchor.lua)
  ARGV  1 epoch  2 and up: lease ids, of which the caller sends few enough for a millisecond
  Events  activated, for each that was pending
  Returns {now, for each lease: itself, STALE_EPOCH or WITHDRAWN}, or QUARANTINED
]]
--- @include "leases"
if quarantined() then
  return QUARANTINED
end
local isCurrent = redis.call('HGET', META, 'epoch') == ARGV[1]

local function activated(id)
  local lease = leaseOf(id)
  -- 1. Idempotency.
  if lease and lease.state == 'active' and not isOver(lease) then
    return shown(lease, sessionOf(lease.device))
  end
  -- 2. Epoch.
  if not isCurrent then
    return STALE_EPOCH
  end
  -- 3. Too late.
  if not lease or isOver(lease) then
    return WITHDRAWN
  end
  -- 4. Change.  spin: leases.activate
  lease.state = 'active'
  local session = sessionOf(lease.device)
  announce('activated', lease, session)
  save(lease)
  redis.call('ZADD', EXPIRIES, whole(lease.expiresAtMs), nameOf(lease.id))
  return shown(lease, session)
end

local answers = { now }
for at = 2, #ARGV do
  answers[at] = activated(ARGV[at])
end
return answers
