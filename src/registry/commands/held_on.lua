--[[
  The leases that a device holds on an anchor.

  KEYS  the anchor's (include/anchor.lua)
  ARGV  1 tenant  2 device  3 the device's index, when that is being made whole: what another index had decided is granted
        no more
  Events  none
  Returns {now, lease ...}, or QUARANTINED, and with an index UNDECLARED
]]
--- @include "leases"
local device = ARGV[1] .. '/' .. ARGV[2]
-- 1. Where nobody has reported until a quarantine's end, nobody will.
if quarantined() and not (ARGV[3] and quarantineIsOver() and redis.call('HEXISTS', META, 'reportRelay') == 0) then
  return QUARANTINED
end
if ARGV[3] then
  if redis.call('HEXISTS', META, 'plan') == 0 then
    return UNDECLARED
  end
  -- 2. What another index has decided, and is still under way, comes too late.
  remember('index:' .. device, ARGV[3])
end
local answer = { now }
local session = sessionOf(device)
for _, name in ipairs(session and session.leases or {}) do
  local lease = decodeLease(name, redis.call('HGET', LEASES, name))
  if not isOver(lease) then
    answer[#answer + 1] = shown(lease, session)
  end
end
return answer
