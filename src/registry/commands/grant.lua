--[[
  Grants a lease: pending until the owner relay has installed it (activate), withdrawn after 10 s without.

  KEYS  the anchor's (include/anchor.lua)
  ARGV  1 the device's index, which has decided this (device.lua)  2 lease id, which names the request  3 tenant  4 device  5 thumbprint  6 kind  7 leaseMs  8 bind id
        9 session id and 10 salt, for the case that the device needs a new session  11 anchor  12 pool
        13 the one remote (records.lua), or '-'  14, 15 and 16 address (hexadecimal), port and SPI that it is to have, or '' each
        17 '0' when it may only have been granted before
  Events  session (the device came with another key), granted
  Returns {now, lease, session, replaced session or '', free slots}, or {now, '', used, number, limit}: more is to be dealt to this
          anchor for the tenant, and nothing is decided (deal); or UNDECLARED, NO_OWNER, KIND_NOT_OFFERED,
          EXHAUSTED, ADDRESS_INUSE, ADDRESS_UNALLOWED, PORTS_INUSE, PORTS_UNALLOWED, SPIS_INUSE, SPIS_UNAVAILABLE, REMOTE_FAMILY, WITHDRAWN, REQUEST_ENDED, INDEX_BEHIND, QUARANTINED. Any
          other refusal than the first and the last is remembered: the attempt stays refused
]]
--- @include "sessions"
--- @include "wishes"
--- @include "lifetimes"
local PENDING_MS = 10000
local leaseId, tenant, deviceId, thumbprint, kind = unpack(ARGV, 2, 6)
local bindId = tonumber(ARGV[8])
local device = tenant .. '/' .. deviceId

-- The lease of this attempt; or one of another attempt, which a deposed primary has called failed.
local function leaseOfRequest(session)
  local lease = leaseOf(leaseId)
  for _, name in ipairs(not lease and session and session.leases or {}) do
    if markOf(name) == markOf(nameOf(leaseId)) then
      lease = decodeLease(name, redis.call('HGET', LEASES, name))
    end
  end
  return lease
end

if quarantined() then
  return QUARANTINED
end
-- 1. Idempotency.
local session = sessionOf(device)
local known = leaseOfRequest(session)
if known then
  if isOver(known) then
    if known.state == 'active' then
      return REQUEST_ENDED
    end
    endLease(known, 'withdrawn')
    return WITHDRAWN
  end
  if known.id ~= leaseId then
    refuse(leaseId, WITHDRAWN)
  end
  return { now, shown(known, session), shownSession(session), '', freeSlots() }
end
local refused = recall(leaseId)
if refused then
  return tonumber(string.sub(refused, 2))
end
if ARGV[17] == '0' then
  return refuse(leaseId, WITHDRAWN)
end
-- An index that came after the one that has decided this does not know of it.
local index = recall('index:' .. device)
if index and index ~= ARGV[1] then
  return refuse(leaseId, INDEX_BEHIND)
end

-- 2. An owner to install it.
local meta = redis.call(
  'HMGET', META, 'plan', 'capacity', 'owner', 'untilMs', 'longestLeaseMs', 'shortestLeaseMs', 'pool',
  'maxLeasesPerTenant'
)
if not meta[1] then
  return UNDECLARED
end
-- It may have come to another pool since the device had it.
if meta[7] ~= ARGV[12] then
  return refuse(leaseId, UNDECLARED)
end
if not meta[3] or tonumber(meta[4]) <= now then
  return refuse(leaseId, NO_OWNER)
end

-- 3. Resources.
local plan = cjson.decode(meta[1])
if (plan.sharing == 'whole') ~= (kind == 'rsa-ip') then
  return refuse(leaseId, KIND_NOT_OFFERED)
end
local slot, why
if (ARGV[14] or '') .. (ARGV[15] or '') .. (ARGV[16] or '') ~= '' then
  local wish = { address = ARGV[14] ~= '' and ARGV[14], port = tonumber(ARGV[15]), spi = tonumber(ARGV[16]) }
  slot, why = slotWished(plan, device, wish)
else
  slot, why = pickSlot(plan, device, kind), EXHAUSTED
end
if not slot then
  return refuse(leaseId, why)
end
local resources = resourcesOf(plan, slot, kind)
local remote = ARGV[13] or '-'
if remote ~= '-' and isV6(remote) ~= isV6(resources.address) then
  return refuse(leaseId, REMOTE_FAMILY)
end

-- 4. The tenant's place in the pool.
local isCounted = meta[8] ~= false
local allowance = isCounted and allowanceOf(tenant)
if isCounted and allowance.used >= allowance.allowed then
  if allowance.number == '0' then
    allowance.number = takeNumber()
    saveAllowance(tenant, allowance)
  end
  return { now, '', allowance.used, allowance.number, tonumber(meta[8]) }
end

-- 5. The device's session on this anchor.
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

-- 6. Change: the event first, then what it says.  spin: leases.grant
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
}
local record, name = encodeLease(lease), nameOf(leaseId)
publish(lease.fence, table.concat({ 'granted', name, record, encodeSession(session) }, ' '))
takeSlot(slot)
saveSession(session)
redis.call('HSET', LEASES, name, record)
redis.call('ZADD', EXPIRIES, whole(lease.pendingUntilMs), name)
if isCounted then
  countLease(device, 1)
end
return { now, shown(lease, session), shownSession(session), replaced, freeSlots() }
