--[[
  Everything about an anchor at one instant. Records cross as they are stored: 4,096 leases take under 5 ms.

  KEYS  the anchor's (include/anchor.lua)
  ARGV  none
  Events  none
  Returns {now, epoch, counter, owner, boot, untilMs, declaration, capacity, leases, sessions, hints},
          or UNDECLARED
]]
--- @include "anchor"
local meta = redis.call('HMGET', META, 'epoch', 'counter', 'owner', 'boot', 'untilMs', 'declaration', 'capacity')
if not meta[6] then
  return UNDECLARED
end
-- The last entry's own id: a claim raises the epoch of later fences, not of earlier ones.
local last = redis.call('XREVRANGE', STREAM, '+', '-', 'COUNT', 1)
return {
  now,
  meta[1],
  last[1] and last[1][1] or '0-0',
  meta[3] or '',
  meta[4] or '',
  meta[5] or '0',
  meta[6],
  meta[7],
  redis.call('HVALS', LEASES),
  redis.call('HVALS', SESSIONS),
  redis.call('HVALS', HINTS),
}
