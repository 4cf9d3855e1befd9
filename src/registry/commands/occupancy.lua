--[[
  How much of an anchor is leased.

  KEYS  the anchor's (include/anchor.lua)
  ARGV  none
  Events  none
  Returns {now, leases held, slots that a stranger could get now}, or UNDECLARED
]]
--- @include "slots"
if redis.call('HEXISTS', META, 'plan') == 0 then
  return UNDECLARED
end
return { now, redis.call('HLEN', LEASES), freeSlots() }
