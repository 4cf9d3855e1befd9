--[[
  What an anchor is and who owns it, without its leases.

  KEYS  the anchor's (include/anchor.lua)
  ARGV  none
  Events  none
  Returns {now, epoch, owner, boot, untilMs, declaration, capacity}, or UNDECLARED
]]
--- @include "anchor"
local meta = redis.call('HMGET', META, 'epoch', 'owner', 'boot', 'untilMs', 'declaration', 'capacity')
if not meta[5] then
  return UNDECLARED
end
return { now, meta[1], meta[2] or '', meta[3] or '', meta[4] or '0', meta[5], meta[6] }
