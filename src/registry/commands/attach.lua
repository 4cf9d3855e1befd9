#!lua flags=allow-oom
--[[
  The session that carries a device's lease; a new one when the device's key is another than before.

  KEYS  the anchor's (include/anchor.lua)
  ARGV  1 lease id  2 tenant  3 device  4 thumbprint  5 session id and 6 salt for a new session
  Events  session, when it is replaced
  Returns {now, lease, session, replaced session or ''}, or BAD_BIND, QUARANTINED
]]
--- @include "sessions"
if quarantined() then
  return QUARANTINED
end
local lease = heldBy(ARGV[1], ARGV[2], ARGV[3])
if not lease then
  return BAD_BIND
end
local session = sessionOf(lease.device)
-- 1. Idempotency: the key is the session's, or this request made the session.
if session.thumbprint == ARGV[4] then
  local replaced = session.id == ARGV[5] and session.replaces ~= '-' and session.replaces or ''
  return { now, shown(lease, session), shownSession(session), replaced }
end
-- 2. Change.
local new = replaceSession(session, ARGV[5], ARGV[4], ARGV[6])
return { now, shown(leaseOf(lease.id), new), shownSession(new), session.id }
