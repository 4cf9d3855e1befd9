--[[
  The leases that a device holds on an anchor.

  KEYS  the anchor's (include/anchor.lua)
  ARGV  1 tenant  2 device
  Events  none
  Returns {now, lease ...}, QUARANTINED
]]
--- @include "leases"
if quarantined() then
  return QUARANTINED
end
local answer = { now }
local session = sessionOf(ARGV[1] .. '/' .. ARGV[2])
for _, name in ipairs(session and session.leases or {}) do
  local lease = decodeLease(name, redis.call('HGET', LEASES, name))
  if not isOver(lease) then
    answer[#answer + 1] = shown(lease, session)
  end
end
return answer
