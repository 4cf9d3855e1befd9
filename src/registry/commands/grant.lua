--[[
  Grants a lease: pending until the owner relay has installed it (activate), withdrawn after 10 s without.

  KEYS  the anchor's (include/anchor.lua)
  ARGV  1 request  2 lease id  3 tenant  4 device  5 thumbprint  6 kind  7 leaseMs  8 bind id
        9 session id and 10 salt, for the case that the device needs a new session  11 anchor  12 pool
        13 the one remote (records.lua), or '-'  14, 15 and 16 address (hexadecimal), port and SPI that it is to have, or '' each
        17 the lease that the intent names as its answer, or ''
  Events  session (the device came with another key), granted
  Returns {now, lease, session, replaced session or '', free slots}, or UNDECLARED, NO_OWNER, KIND_NOT_OFFERED,
          EXHAUSTED, ADDRESS_INUSE, ADDRESS_UNALLOWED, PORTS_INUSE, PORTS_UNALLOWED, SPIS_INUSE, SPIS_UNAVAILABLE, REMOTE_FAMILY, WITHDRAWN, REQUEST_ENDED, REQUEST_MISUSED, QUARANTINED. Any
          other refusal than the last is remembered: the request stays refused
]]
--- @include "sessions"
--- @include "wishes"
--- @include "lifetimes"
local PENDING_MS = 10000
local request, leaseId, tenant, deviceId, thumbprint, kind = unpack(ARGV, 1, 6)
local bindId = tonumber(ARGV[8])
local device = tenant .. '/' .. deviceId

if quarantined() then
  return QUARANTINED
end
-- 1. Idempotency.
local answered = recall(request)
-- A fail-over lost the answer, and the owner has reported the lease.
if not answered and (ARGV[17] or '') ~= '' and leaseOf(ARGV[17]) then
  answered = 'L' .. ARGV[17]
end
if answered then
  if string.sub(answered, 1, 1) == 'C' then
    return tonumber(string.sub(answered, 2))
  end
  local lease = leaseOf(string.sub(answered, 2))
  if lease.device ~= device then
    return REQUEST_MISUSED
  end
  if isOver(lease) then
    if lease.state == 'active' then
      return REQUEST_ENDED
    end
    endLease(lease, 'withdrawn')
    return WITHDRAWN
  end
  local session = sessionOf(device)
  return { now, shown(lease, session), shownSession(session), '', freeSlots() }
end

-- 2. An owner to install it.
local meta = redis.call('HMGET', META, 'plan', 'capacity', 'owner', 'untilMs', 'longestLeaseMs', 'shortestLeaseMs')
if not meta[1] then
  return UNDECLARED
end
if not meta[3] or tonumber(meta[4]) <= now then
  return refuse(request, NO_OWNER)
end

-- 3. Resources.
local plan = cjson.decode(meta[1])
if (plan.sharing == 'whole') ~= (kind == 'rsa-ip') then
  return refuse(request, KIND_NOT_OFFERED)
end
local slot, why
if (ARGV[14] or '') .. (ARGV[15] or '') .. (ARGV[16] or '') ~= '' then
  local wish = { address = ARGV[14] ~= '' and ARGV[14], port = tonumber(ARGV[15]), spi = tonumber(ARGV[16]) }
  slot, why = slotWished(plan, device, wish)
else
  slot, why = pickSlot(plan, device, kind), EXHAUSTED
end
if not slot then
  return refuse(request, why)
end
local resources = resourcesOf(plan, slot, kind)
local remote = ARGV[13] or '-'
if remote ~= '-' and isV6(remote) ~= isV6(resources.address) then
  return refuse(request, REMOTE_FAMILY)
end

-- 4. The device's session on this anchor.
local session = sessionOf(device)
local replaced = ''
if session and session.thumbprint ~= thumbprint then
  replaced = session.id
  session = replaceSession(session, ARGV[9], thumbprint, ARGV[10])
elseif not session then
  session = {
    device = device,
    index = takeIndex(),
    id = ARGV[9],
    thumbprint = thumbprint,
    salt = ARGV[10],
    replaces = '-',
    leases = {},
  }
end
session.leases[#session.leases + 1] = nameOf(leaseId)

local leaseMs = lifetime(tonumber(ARGV[7]), meta[5], meta[6], meta[2])

-- 5. Change: the event first, then what it says.  spin: leases.grant
local lease = {
  id = leaseId,
  device = device,
  slot = slot,
  address = resources.address,
  ports = resources.ports,
  spis = resources.spis,
  ikeSpis = resources.ikeSpis,
  remote = remote,
  state = 'pending',
  expiresAtMs = now + leaseMs,
  pendingUntilMs = now + math.min(PENDING_MS, leaseMs),
  fence = takeFence(),
  bindId = bindId,
  request = request,
}
local record, name = encodeLease(lease), nameOf(leaseId)
publish(lease.fence, table.concat({ 'granted', name, record, encodeSession(session) }, ' '))
takeSlot(slot)
saveSession(session)
redis.call('HSET', LEASES, name, record)
redis.call('ZADD', EXPIRIES, whole(lease.pendingUntilMs), name)
redis.call('HSET', ANSWERS, request, 'L' .. leaseId)
return { now, shown(lease, session), shownSession(session), replaced, freeSlots() }
