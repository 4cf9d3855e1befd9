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
local session = redis.call('HGET', DEVICES, ARGV[1] .. '/' .. ARGV[2])
if session then
  for _, id in ipairs(cjson.decode(redis.call('HGET', SESSIONS, session)).leases) do
    local lease = leaseOf(id)
    if not isOver(lease) then
      answer[#answer + 1] = cjson.encode(lease)
    end
  end
end
return answer
