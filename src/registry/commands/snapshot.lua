--[[
  A page of an anchor: some of its leases with their sessions, at one instant, and what it is then. Records cross as they
  are stored: nothing is decoded for each lease.

  KEYS  the anchor's (include/anchor.lua)
  ARGV  1 cursor, 0 to begin with  2 how many leases, about
  Events  none
  Returns {now, epoch, owner, boot, untilMs, declaration, capacity, standby, its boot, last fence, cursor to go on with,
          {lease, its record ...}, {device, its session's record, its hint or '' ...}}, or UNDECLARED, QUARANTINED
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
local page = redis.call('HSCAN', LEASES, ARGV[1], 'COUNT', ARGV[2])
local leases = page[2]
local sessions, seen = {}, {}
for at = 2, #leases, 2 do
  local device = string.match(leases[at], '^%S+')
  if not seen[device] then
    seen[device] = true
    local session = redis.call('HGET', SESSIONS, device)
    sessions[#sessions + 1] = device
    sessions[#sessions + 1] = session
    sessions[#sessions + 1] = redis.call('HGET', HINTS, string.match(session, '^%S+ (%S+)')) or ''
  end
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
  page[1],
  leases,
  sessions,
}
