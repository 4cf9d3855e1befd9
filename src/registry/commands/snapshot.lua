--[[
  Everything about an anchor at one instant. Records cross as they are stored: nothing is decoded for each lease.

  KEYS  the anchor's (include/anchor.lua)
  ARGV  none
  Events  none
  Returns {now, epoch, owner, boot, untilMs, declaration, capacity, standby, its boot, last fence, {lease, record ...},
          {device, session ...}, {session, hint ...}}, or UNDECLARED, QUARANTINED
]]
--- @include "quarantine"
if quarantined() then
  return QUARANTINED
end
local meta = redis.call(
  'HMGET', META, 'epoch', 'owner', 'boot', 'untilMs', 'declaration', 'capacity', 'standby', 'standbyBoot'
)
if not meta[5] then
  return UNDECLARED
end
-- The last entry's own id: a claim raises the epoch of later fences, not of earlier ones.
local last = redis.call('XREVRANGE', STREAM, '+', '-', 'COUNT', 1)
return {
  now,
  meta[1],
  meta[2] or '',
  meta[3] or '',
  meta[4] or '0',
  meta[5],
  meta[6],
  meta[7] or '',
  meta[8] or '',
  last[1] and last[1][1] or '0-0',
  redis.call('HGETALL', LEASES),
  redis.call('HGETALL', SESSIONS),
  redis.call('HGETALL', HINTS),
}
