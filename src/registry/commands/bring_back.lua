#!lua flags=allow-oom
--[[
  A former owner says what it has, after a quarantine has ended without its word. What was lost then comes back where its
  resources are nobody's since: a lease, or what a lease was extended by. Idempotent as it stands.

  KEYS  the anchor's (include/anchor.lua)
  ARGV  1 epoch and  2 counter of the last fence that it has seen  3 '1' when that was all  then some of its leases, each as it
        crosses and with its session's record behind it
  Events  granted, activated, extended, ended
  Returns 1 when something of what it knows is missing, else 0, or UNDECLARED, QUARANTINED
]]
--- @include "restoring"
if quarantined() then
  return QUARANTINED
end
local stored = redis.call('HGET', META, 'plan')
if not stored then
  return UNDECLARED
end
local plan = cjson.decode(stored)
local all = eachMissed()

-- Slots of a lease that it has not now; nil where another has any of them, or had it and it rests, or they are not these resources
-- any more.
local function slotsNobodyHadSince(known, lease)
  local isSame = false
  for _, slot in ipairs(slotsIn(plan, lease)) do
    local planned = resourcesOf(plan, slot, lease.spis ~= '-' and 'rsipsec' or 'rsap-ip')
    isSame = isSame or planned.spis == lease.spis and planned.ikeSpis == lease.ikeSpis
  end
  local lost = isSame and lostSlots(plan, known, lease)
  for _, slot in ipairs(lost or {}) do
    local former = redis.call('HGET', FORMER, 's:' .. slot)
    if former and not isFree(slot, lease.device) then
      return nil
    end
  end
  return lost or nil
end

-- The session that is to carry it: the device's present one, or the one that it had if its index is nobody's; nil.
local function sessionFor(lease, record)
  local present = sessionOf(lease.device)
  if present then
    -- Its request was answered anew.
    for _, name in ipairs(present.leases) do
      if name ~= nameOf(lease.id) and markOf(name) == markOf(nameOf(lease.id)) then
        return nil
      end
    end
    return present
  end
  local session = decodeSession(lease.device, record)
  if session.id ~= lease.session or redis.call('GETBIT', INDEXES, session.index) == 1 then
    return nil
  end
  session.leases = {}
  return restoreSession(session)
end

-- A lease that the device had of the same share before, and that nobody has touched since: it was freed in what is missing.
local function endPredecessors(lease)
  local epoch, wanted = tonumber(string.match(lease.fence, '^%d+')), {}
  for _, slot in ipairs(slotsIn(plan, lease)) do
    wanted[slot] = true
  end
  local session = sessionOf(lease.device)
  for _, name in ipairs(session and session.leases or {}) do
    local other = decodeLease(name, redis.call('HGET', LEASES, name))
    local isOlder = counterIn(other.fence) < counterIn(lease.fence)
    if isOlder and tonumber(string.match(other.fence, '^%d+')) <= epoch then
      for _, slot in ipairs(slotsIn(plan, other)) do
        if wanted[slot] then
          endLease(other, 'freed')
          break
        end
      end
    end
  end
end

-- spin: leases.bring-back
local function bringBack(lease, record)
  local epoch = tonumber(string.match(lease.fence, '^%d+'))
  if not missing(all, epoch, counterIn(lease.fence)) or lease.remainingMs <= 0 then
    return
  end
  local known = leaseOf(lease.id)
  -- Freed or revoked since, or changed.
  if not known and recall(lease.id) == 'C' .. REQUEST_ENDED then
    return
  end
  if known and counterIn(known.fence) > counterIn(lease.fence) then
    return
  end
  local first, count = portsIn(lease.ports)
  lease.slot = known and known.slot or slotOf(plan, hexOf(lease.address), first)
  if known and first and select(2, portsIn(known.ports)) > count then
    lease.ports = known.ports
  end
  if lease.slot and not known then
    endPredecessors(lease)
  end
  local lost = lease.slot and slotsNobodyHadSince(known, lease)
  local session = lost and sessionFor(lease, record)
  if not session then
    return
  end
  takeMoreSlots(lost)
  countExtraSlots(known and 0 or -1)
  lease.expiresAtMs = math.max(now + lease.remainingMs, known and known.expiresAtMs or 0)
  joinSession(session, lease)
  if known then
    announce(known.state == 'pending' and 'activated' or 'extended', lease, session)
  else
    lease.fence = takeFence()
    publish(lease.fence, table.concat({ 'granted', nameOf(lease.id), encodeLease(lease), encodeSession(session) }, ' '))
    countLease(lease.device, 1)
  end
  save(lease)
  saveSession(session)
  redis.call('ZADD', EXPIRIES, whole(lease.expiresAtMs), nameOf(lease.id))
end

local seen = missing(all, tonumber(ARGV[1]), tonumber(ARGV[2]))
if not seen then
  return 0
end
for at = 4, #ARGV, 2 do
  bringBack(heldFrom(ARGV[at], now), ARGV[at + 1])
end
-- Whoever knows less has nothing more to say.
if ARGV[3] == '1' then
  seen.counter = tonumber(ARGV[2])
  storeMissed(all)
end
return 1
