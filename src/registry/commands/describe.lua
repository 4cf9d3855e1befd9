--[[
  What an anchor is and who owns it, without its leases.

  KEYS  the anchor's (include/anchor.lua)
  ARGV  none
  Events  none
  Returns {now, epoch, owner, boot, untilMs, declaration, capacity, standby, its boot}, or UNDECLARED
]]
--- @include "anchor"
local meta = redis.call('HMGET', META, 'epoch', 'owner', 'boot', 'untilMs', 'declaration', 'capacity', 'standby', 'standbyBoot')
if not meta[5] then
  return UNDECLARED
end
return { now, meta[1], meta[2] or '', meta[3] or '', meta[4] or '0', meta[5], meta[6], meta[7] or '', meta[8] or '' }
