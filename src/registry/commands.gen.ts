// Generated from src/registry/commands/*.lua by infra/build/lua.ts. Do not edit.

export const COMMANDS = {
  abandon: {
    name: 'mooring_abandon_fe9876d817f6',
    keys: 1,
    lua: `#!lua flags=allow-oom
local INDEX = unpack(KEYS)
local function readNote(value)
return string.match(value, '^([-+?])(%S+) ?(%d*) ?(%d*)$')
end
if readNote(redis.call('HGET', INDEX, ARGV[1]) or '') == '?' then
redis.call('HDEL', INDEX, ARGV[1])
end
return 'OK'`,
  },
  activate: {
    name: 'mooring_activate_a53c43c888f7',
    keys: 15,
    lua: `#!lua flags=allow-oom
local STALE_EPOCH = -3
local WITHDRAWN = -9
local QUARANTINED = -16
local function readNow()
local time = redis.call('TIME')
return time[1] * 1000 + math.floor(time[2] / 1000)
end
local now = readNow()
local META, LEASES, SESSIONS, INDEXES, EXPIRIES, COOLING, FORMER, ANSWERS, ANSWERED, STREAM, HINTS, REPORT, TENANTS, CHANNEL, OLDER =
unpack(KEYS)
local SCHEMA = '2'
local function whole(number)
return string.format('%.0f', number)
end
local schema = redis.call('HGET', META, 'schema')
if schema and schema ~= SCHEMA then
error({ err = 'MOORINGSCHEMA ' .. schema })
end
local MOST_EVENTS = 512
local LEAST_EVENTS = 64
local function takeFence()
local counter = redis.call('HINCRBY', META, 'counter', 1)
return redis.call('HGET', META, 'epoch') .. '-' .. whole(counter)
end
local function publish(fence, event)
local length = math.max(LEAST_EVENTS, math.min(MOST_EVENTS, redis.call('HLEN', LEASES)))
redis.call('XADD', STREAM, 'MAXLEN', '~', length, fence, 'event', event)
redis.call('SPUBLISH', CHANNEL, fence)
end
local LEASE_WORDS = '^' .. string.rep('(%S+) ', 10) .. '(%S+)$'
local SESSION_WORDS = '^' .. string.rep('(%S+) ', 5) .. '(%S+)$'
local ANCHOR_NAME = string.match(META, '{a:(.*)}')
local function nameOf(id)
return string.sub(id, #ANCHOR_NAME + 2)
end
local function encodeLease(lease)
local pending = lease.state == 'pending' and whole(lease.pendingUntilMs) or '-'
return table.concat({
lease.device, lease.slot, lease.address, lease.ports, lease.spis, lease.ikeSpis, lease.remote, pending,
whole(lease.expiresAtMs), lease.fence, whole(lease.bindId),
}, ' ')
end
local function decodeLease(name, record)
local device, slot, address, ports, spis, ikeSpis, remote, pending, expires, fence, bindId =
string.match(record, LEASE_WORDS)
return {
id = ANCHOR_NAME .. '.' .. name,
device = device,
slot = slot,
address = address,
ports = ports,
spis = spis,
ikeSpis = ikeSpis,
remote = remote,
state = pending == '-' and 'active' or 'pending',
pendingUntilMs = tonumber(pending),
expiresAtMs = tonumber(expires),
fence = fence,
bindId = tonumber(bindId),
}
end
local function decodeSession(device, record)
local index, id, thumbprint, salt, replaces, named = string.match(record, SESSION_WORDS)
local leases = {}
for name in string.gmatch(named, '[^,]+') do
leases[#leases + 1] = name
end
return {
device = device,
index = index,
id = id,
thumbprint = thumbprint,
salt = salt,
replaces = replaces,
leases = leases,
}
end
local function readServer()
return string.match(redis.call('INFO', 'replication'), 'master_replid:(%x+)')
end
local server = readServer()
local function forgetReport()
redis.call(
'HDEL', META, 'reportEpoch', 'reportRelay', 'reportBoot', 'reportCounter', 'reportUntilMs',
'reportPlan', 'reportAtMs', 'reportIsTold', 'reportAs', 'restoring', 'restMs', 'restTo', 'isInDoubt', 'isRestored'
)
redis.call('UNLINK', REPORT)
end
local function beginQuarantine(ms)
redis.call('HSETNX', META, 'wholeCounter', redis.call('HGET', META, 'counter') or 0)
redis.call('HSET', META, 'server', server, 'quarantineUntilMs', whole(now + ms))
redis.call('HDEL', META, 'isRaised')
forgetReport()
end
local function quarantined()
local of = redis.call('HMGET', META, 'server', 'quarantineUntilMs', 'quarantineMs')
if of[1] and of[1] ~= server then
beginQuarantine(tonumber(of[3]))
return true
end
return of[2] ~= false
end
local function leaseOf(id)
local name = nameOf(id)
local record = redis.call('HGET', LEASES, name)
return record and decodeLease(name, record)
end
local function save(lease)
redis.call('HSET', LEASES, nameOf(lease.id), encodeLease(lease))
end
local function sessionOf(device)
local record = redis.call('HGET', SESSIONS, device)
return record and decodeSession(device, record)
end
local function announce(kind, lease, session)
lease.fence = takeFence()
publish(lease.fence, table.concat({ kind, nameOf(lease.id), session.id, encodeLease(lease) }, ' '))
end
local function shown(lease, session)
return table.concat({ lease.id, redis.call('HGET', META, 'pool'), session.id, encodeLease(lease) }, ' ')
end
local function isOver(lease)
return lease.expiresAtMs <= now or (lease.state == 'pending' and lease.pendingUntilMs <= now)
end
if quarantined() then
return QUARANTINED
end
local isCurrent = redis.call('HGET', META, 'epoch') == ARGV[1]
local function activated(id)
local lease = leaseOf(id)
if lease and lease.state == 'active' and not isOver(lease) then
return shown(lease, sessionOf(lease.device))
end
if not isCurrent then
return STALE_EPOCH
end
if not lease or isOver(lease) then
return WITHDRAWN
end
lease.state = 'active'
local session = sessionOf(lease.device)
announce('activated', lease, session)
save(lease)
redis.call('ZADD', EXPIRIES, whole(lease.expiresAtMs), nameOf(lease.id))
return shown(lease, session)
end
local answers = { now }
for at = 2, #ARGV do
answers[at] = activated(ARGV[at])
end
return answers`,
  },
  allow: {
    name: 'mooring_allow_75ef877bf768',
    keys: 15,
    lua: `local QUARANTINED = -16
local function readNow()
local time = redis.call('TIME')
return time[1] * 1000 + math.floor(time[2] / 1000)
end
local now = readNow()
local META, LEASES, SESSIONS, INDEXES, EXPIRIES, COOLING, FORMER, ANSWERS, ANSWERED, STREAM, HINTS, REPORT, TENANTS, CHANNEL, OLDER =
unpack(KEYS)
local SCHEMA = '2'
local function whole(number)
return string.format('%.0f', number)
end
local schema = redis.call('HGET', META, 'schema')
if schema and schema ~= SCHEMA then
error({ err = 'MOORINGSCHEMA ' .. schema })
end
local function nextNumber()
return whole(math.max(tonumber(redis.call('HGET', META, 'allowanceNumber') or 0) + 1, now))
end
local function takeNumber()
local number = nextNumber()
redis.call('HSET', META, 'allowanceNumber', number)
return number
end
local function allowanceOf(tenant)
local used, allowed, number, epoch =
string.match(redis.call('HGET', TENANTS, tenant) or '0 0 0 0', '^(%d+) (%d+) (%d+) (%d+)$')
local isCurrent = epoch == redis.call('HGET', META, 'epoch')
return {
used = tonumber(used),
allowed = isCurrent and tonumber(allowed) or 0,
number = isCurrent and number or '0',
}
end
local function saveAllowance(tenant, allowance)
local epoch = redis.call('HGET', META, 'epoch')
local words = { whole(allowance.used), whole(allowance.allowed), allowance.number, epoch }
redis.call('HSET', TENANTS, tenant, table.concat(words, ' '))
end
local function readServer()
return string.match(redis.call('INFO', 'replication'), 'master_replid:(%x+)')
end
local server = readServer()
local function forgetReport()
redis.call(
'HDEL', META, 'reportEpoch', 'reportRelay', 'reportBoot', 'reportCounter', 'reportUntilMs',
'reportPlan', 'reportAtMs', 'reportIsTold', 'reportAs', 'restoring', 'restMs', 'restTo', 'isInDoubt', 'isRestored'
)
redis.call('UNLINK', REPORT)
end
local function beginQuarantine(ms)
redis.call('HSETNX', META, 'wholeCounter', redis.call('HGET', META, 'counter') or 0)
redis.call('HSET', META, 'server', server, 'quarantineUntilMs', whole(now + ms))
redis.call('HDEL', META, 'isRaised')
forgetReport()
end
local function quarantined()
local of = redis.call('HMGET', META, 'server', 'quarantineUntilMs', 'quarantineMs')
if of[1] and of[1] ~= server then
beginQuarantine(tonumber(of[3]))
return true
end
return of[2] ~= false
end
if quarantined() then
return QUARANTINED
end
local allowance = allowanceOf(ARGV[1])
if allowance.number == '0' or allowance.number ~= ARGV[3] then
return 'OK'
end
allowance.allowed = tonumber(ARGV[2])
allowance.number = takeNumber()
saveAllowance(ARGV[1], allowance)
return 'OK'`,
  },
  announce: {
    name: 'mooring_announce_341ed5f17747',
    keys: 1,
    lua: `#!lua flags=allow-oom
local RELAY = unpack(KEYS)
return redis.call('SET', RELAY, ARGV[1], 'PX', ARGV[2])`,
  },
  appoint: {
    name: 'mooring_appoint_8e9dff762ef5',
    keys: 15,
    lua: `#!lua flags=allow-oom
local STALE_EPOCH = -3
local QUARANTINED = -16
local function readNow()
local time = redis.call('TIME')
return time[1] * 1000 + math.floor(time[2] / 1000)
end
local now = readNow()
local META, LEASES, SESSIONS, INDEXES, EXPIRIES, COOLING, FORMER, ANSWERS, ANSWERED, STREAM, HINTS, REPORT, TENANTS, CHANNEL, OLDER =
unpack(KEYS)
local SCHEMA = '2'
local function whole(number)
return string.format('%.0f', number)
end
local schema = redis.call('HGET', META, 'schema')
if schema and schema ~= SCHEMA then
error({ err = 'MOORINGSCHEMA ' .. schema })
end
local function readServer()
return string.match(redis.call('INFO', 'replication'), 'master_replid:(%x+)')
end
local server = readServer()
local function forgetReport()
redis.call(
'HDEL', META, 'reportEpoch', 'reportRelay', 'reportBoot', 'reportCounter', 'reportUntilMs',
'reportPlan', 'reportAtMs', 'reportIsTold', 'reportAs', 'restoring', 'restMs', 'restTo', 'isInDoubt', 'isRestored'
)
redis.call('UNLINK', REPORT)
end
local function beginQuarantine(ms)
redis.call('HSETNX', META, 'wholeCounter', redis.call('HGET', META, 'counter') or 0)
redis.call('HSET', META, 'server', server, 'quarantineUntilMs', whole(now + ms))
redis.call('HDEL', META, 'isRaised')
forgetReport()
end
local function quarantined()
local of = redis.call('HMGET', META, 'server', 'quarantineUntilMs', 'quarantineMs')
if of[1] and of[1] ~= server then
beginQuarantine(tonumber(of[3]))
return true
end
return of[2] ~= false
end
local function owner()
local of = redis.call('HMGET', META, 'owner', 'boot', 'epoch', 'untilMs', 'home', 'standby', 'standbyBoot')
return {
relay = of[1],
boot = of[2],
epoch = of[3],
untilMs = tonumber(of[4] or 0),
home = of[5],
standby = of[6],
standbyBoot = of[7],
}
end
local function holdUntil(untilMs)
redis.call('HSET', META, 'untilMs', whole(untilMs))
end
if quarantined() then
return QUARANTINED
end
local current = owner()
if current.relay ~= ARGV[1] or current.epoch ~= ARGV[2] then
return STALE_EPOCH
end
if ARGV[3] == '' then
redis.call('HDEL', META, 'standby', 'standbyBoot')
else
redis.call('HSET', META, 'standby', ARGV[3], 'standbyBoot', ARGV[4])
end
local untilMs = math.max(current.untilMs, now + ARGV[5])
holdUntil(untilMs)
return untilMs - now`,
  },
  attach: {
    name: 'mooring_attach_0c37ddedad4e',
    keys: 15,
    lua: `#!lua flags=allow-oom
local BAD_BIND = -6
local QUARANTINED = -16
local function readNow()
local time = redis.call('TIME')
return time[1] * 1000 + math.floor(time[2] / 1000)
end
local now = readNow()
local META, LEASES, SESSIONS, INDEXES, EXPIRIES, COOLING, FORMER, ANSWERS, ANSWERED, STREAM, HINTS, REPORT, TENANTS, CHANNEL, OLDER =
unpack(KEYS)
local SCHEMA = '2'
local function whole(number)
return string.format('%.0f', number)
end
local schema = redis.call('HGET', META, 'schema')
if schema and schema ~= SCHEMA then
error({ err = 'MOORINGSCHEMA ' .. schema })
end
local MOST_EVENTS = 512
local LEAST_EVENTS = 64
local function takeFence()
local counter = redis.call('HINCRBY', META, 'counter', 1)
return redis.call('HGET', META, 'epoch') .. '-' .. whole(counter)
end
local function publish(fence, event)
local length = math.max(LEAST_EVENTS, math.min(MOST_EVENTS, redis.call('HLEN', LEASES)))
redis.call('XADD', STREAM, 'MAXLEN', '~', length, fence, 'event', event)
redis.call('SPUBLISH', CHANNEL, fence)
end
local LEASE_WORDS = '^' .. string.rep('(%S+) ', 10) .. '(%S+)$'
local SESSION_WORDS = '^' .. string.rep('(%S+) ', 5) .. '(%S+)$'
local ANCHOR_NAME = string.match(META, '{a:(.*)}')
local function nameOf(id)
return string.sub(id, #ANCHOR_NAME + 2)
end
local function encodeLease(lease)
local pending = lease.state == 'pending' and whole(lease.pendingUntilMs) or '-'
return table.concat({
lease.device, lease.slot, lease.address, lease.ports, lease.spis, lease.ikeSpis, lease.remote, pending,
whole(lease.expiresAtMs), lease.fence, whole(lease.bindId),
}, ' ')
end
local function decodeLease(name, record)
local device, slot, address, ports, spis, ikeSpis, remote, pending, expires, fence, bindId =
string.match(record, LEASE_WORDS)
return {
id = ANCHOR_NAME .. '.' .. name,
device = device,
slot = slot,
address = address,
ports = ports,
spis = spis,
ikeSpis = ikeSpis,
remote = remote,
state = pending == '-' and 'active' or 'pending',
pendingUntilMs = tonumber(pending),
expiresAtMs = tonumber(expires),
fence = fence,
bindId = tonumber(bindId),
}
end
local function encodeSession(session)
return table.concat({
session.index, session.id, session.thumbprint, session.salt, session.replaces, table.concat(session.leases, ','),
}, ' ')
end
local function decodeSession(device, record)
local index, id, thumbprint, salt, replaces, named = string.match(record, SESSION_WORDS)
local leases = {}
for name in string.gmatch(named, '[^,]+') do
leases[#leases + 1] = name
end
return {
device = device,
index = index,
id = id,
thumbprint = thumbprint,
salt = salt,
replaces = replaces,
leases = leases,
}
end
local function shownSession(session)
return session.device .. ' ' .. encodeSession(session)
end
local function readServer()
return string.match(redis.call('INFO', 'replication'), 'master_replid:(%x+)')
end
local server = readServer()
local function forgetReport()
redis.call(
'HDEL', META, 'reportEpoch', 'reportRelay', 'reportBoot', 'reportCounter', 'reportUntilMs',
'reportPlan', 'reportAtMs', 'reportIsTold', 'reportAs', 'restoring', 'restMs', 'restTo', 'isInDoubt', 'isRestored'
)
redis.call('UNLINK', REPORT)
end
local function beginQuarantine(ms)
redis.call('HSETNX', META, 'wholeCounter', redis.call('HGET', META, 'counter') or 0)
redis.call('HSET', META, 'server', server, 'quarantineUntilMs', whole(now + ms))
redis.call('HDEL', META, 'isRaised')
forgetReport()
end
local function quarantined()
local of = redis.call('HMGET', META, 'server', 'quarantineUntilMs', 'quarantineMs')
if of[1] and of[1] ~= server then
beginQuarantine(tonumber(of[3]))
return true
end
return of[2] ~= false
end
local function leaseOf(id)
local name = nameOf(id)
local record = redis.call('HGET', LEASES, name)
return record and decodeLease(name, record)
end
local function save(lease)
redis.call('HSET', LEASES, nameOf(lease.id), encodeLease(lease))
end
local function sessionOf(device)
local record = redis.call('HGET', SESSIONS, device)
return record and decodeSession(device, record)
end
local function saveSession(session)
redis.call('HSET', SESSIONS, session.device, encodeSession(session))
end
local function shown(lease, session)
return table.concat({ lease.id, redis.call('HGET', META, 'pool'), session.id, encodeLease(lease) }, ' ')
end
local function isOver(lease)
return lease.expiresAtMs <= now or (lease.state == 'pending' and lease.pendingUntilMs <= now)
end
local function heldBy(id, tenant, device)
local lease = leaseOf(id)
if lease and not isOver(lease) and lease.device == tenant .. '/' .. device then
return lease
end
return nil
end
local function forgetSession(session)
redis.call('HDEL', SESSIONS, session.device)
redis.call('SETBIT', INDEXES, session.index, 0)
redis.call('HDEL', HINTS, session.id)
end
local MOST_INDEXES = 262143
local function takeIndex()
repeat
local index = whole((redis.call('HINCRBY', META, 'nextIndex', 1) - 1) % MOST_INDEXES + 1)
if redis.call('SETBIT', INDEXES, index, 1) == 0 then
return index
end
until false
end
local function replaceSession(old, id, thumbprint, salt)
local session = {
device = old.device,
index = takeIndex(),
id = id,
thumbprint = thumbprint,
salt = salt,
replaces = old.id,
leases = old.leases,
}
local fence = takeFence()
publish(fence, 'session ' .. session.device .. ' ' .. encodeSession(session))
for _, name in ipairs(old.leases) do
local lease = decodeLease(name, redis.call('HGET', LEASES, name))
lease.fence = fence
save(lease)
end
forgetSession(old)
saveSession(session)
return session
end
if quarantined() then
return QUARANTINED
end
local lease = heldBy(ARGV[1], ARGV[2], ARGV[3])
if not lease then
return BAD_BIND
end
local session = sessionOf(lease.device)
if session.thumbprint == ARGV[4] then
local replaced = session.id == ARGV[5] and session.replaces ~= '-' and session.replaces or ''
return { now, shown(lease, session), shownSession(session), replaced }
end
local new = replaceSession(session, ARGV[5], ARGV[4], ARGV[6])
return { now, shown(leaseOf(lease.id), new), shownSession(new), session.id }`,
  },
  bring_back: {
    name: 'mooring_bring_back_27f7596532f3',
    keys: 15,
    lua: `#!lua flags=allow-oom
local UNDECLARED = -1
local WITHDRAWN = -9
local REQUEST_ENDED = -11
local QUARANTINED = -16
local function readNow()
local time = redis.call('TIME')
return time[1] * 1000 + math.floor(time[2] / 1000)
end
local now = readNow()
local META, LEASES, SESSIONS, INDEXES, EXPIRIES, COOLING, FORMER, ANSWERS, ANSWERED, STREAM, HINTS, REPORT, TENANTS, CHANNEL, OLDER =
unpack(KEYS)
local SCHEMA = '2'
local function whole(number)
return string.format('%.0f', number)
end
local schema = redis.call('HGET', META, 'schema')
if schema and schema ~= SCHEMA then
error({ err = 'MOORINGSCHEMA ' .. schema })
end
local MOST_EVENTS = 512
local LEAST_EVENTS = 64
local function takeFence()
local counter = redis.call('HINCRBY', META, 'counter', 1)
return redis.call('HGET', META, 'epoch') .. '-' .. whole(counter)
end
local function publish(fence, event)
local length = math.max(LEAST_EVENTS, math.min(MOST_EVENTS, redis.call('HLEN', LEASES)))
redis.call('XADD', STREAM, 'MAXLEN', '~', length, fence, 'event', event)
redis.call('SPUBLISH', CHANNEL, fence)
end
local LEASE_WORDS = '^' .. string.rep('(%S+) ', 10) .. '(%S+)$'
local SESSION_WORDS = '^' .. string.rep('(%S+) ', 5) .. '(%S+)$'
local ANCHOR_NAME = string.match(META, '{a:(.*)}')
local function nameOf(id)
return string.sub(id, #ANCHOR_NAME + 2)
end
local function markOf(name)
return string.sub(name, 1, 11)
end
local function encodeLease(lease)
local pending = lease.state == 'pending' and whole(lease.pendingUntilMs) or '-'
return table.concat({
lease.device, lease.slot, lease.address, lease.ports, lease.spis, lease.ikeSpis, lease.remote, pending,
whole(lease.expiresAtMs), lease.fence, whole(lease.bindId),
}, ' ')
end
local function decodeLease(name, record)
local device, slot, address, ports, spis, ikeSpis, remote, pending, expires, fence, bindId =
string.match(record, LEASE_WORDS)
return {
id = ANCHOR_NAME .. '.' .. name,
device = device,
slot = slot,
address = address,
ports = ports,
spis = spis,
ikeSpis = ikeSpis,
remote = remote,
state = pending == '-' and 'active' or 'pending',
pendingUntilMs = tonumber(pending),
expiresAtMs = tonumber(expires),
fence = fence,
bindId = tonumber(bindId),
}
end
local function encodeSession(session)
return table.concat({
session.index, session.id, session.thumbprint, session.salt, session.replaces, table.concat(session.leases, ','),
}, ' ')
end
local function decodeSession(device, record)
local index, id, thumbprint, salt, replaces, named = string.match(record, SESSION_WORDS)
local leases = {}
for name in string.gmatch(named, '[^,]+') do
leases[#leases + 1] = name
end
return {
device = device,
index = index,
id = id,
thumbprint = thumbprint,
salt = salt,
replaces = replaces,
leases = leases,
}
end
local KEEP_MS = 3600000
local KEEP_COUNT = 16384
local BY_TIME = '.0'
local function recall(request)
return redis.call('HGET', ANSWERS, request)
end
local function forgetOldest(count)
local oldest = redis.call('ZPOPMIN', ANSWERED, count)
for at = 1, #oldest, 2 do
redis.call('HDEL', ANSWERS, oldest[at])
end
end
local function remember(request, answer)
redis.call('HSET', ANSWERS, request, answer)
redis.call('ZADD', ANSWERED, whole(now + KEEP_MS), request)
local surplus = redis.call('ZCARD', ANSWERED) - KEEP_COUNT
if surplus > 0 then
forgetOldest(surplus)
redis.call('HDEL', META, 'missed')
end
for _ = 1, 2 do
local first = redis.call('ZRANGE', ANSWERED, 0, 0, 'WITHSCORES')
if first[2] == nil or tonumber(first[2]) > now then
break
end
forgetOldest(1)
end
end
local WORD = 4294967296
local ROUNDS = 4
local function times(a, b)
local high = math.floor(a / 65536)
local low = a % 65536
return ((high * b) % 65536 * 65536 + low * b) % WORD
end
local function mix(value)
value = bit.bxor(value, bit.rshift(value, 16)) % WORD
value = times(value, 2246822507)
value = bit.bxor(value, bit.rshift(value, 13)) % WORD
value = times(value, 3266489909)
return bit.bxor(value, bit.rshift(value, 16)) % WORD
end
local function walk(value, width, key, tweak, from, to, step)
local leftWidth = math.floor(width / 2)
local leftSize = 2 ^ leftWidth
local rightSize = 2 ^ (width - leftWidth)
local left = math.floor(value / rightSize)
local right = value % rightSize
for round = from, to, step do
local word = (key[(round - 1) % #key + 1] + times(round + tweak * ROUNDS, 2654435769)) % WORD
if round % 2 == 1 then
left = bit.bxor(left, mix((right + word) % WORD) % leftSize) % WORD
else
right = bit.bxor(right, mix((left + word) % WORD) % rightSize) % WORD
end
end
return left * rightSize + right
end
local function permute(value, width, key, tweak)
return walk(value, width, key, tweak, 1, ROUNDS, 1)
end
local function unpermute(value, width, key, tweak)
return walk(value, width, key, tweak, ROUNDS, 1, -1)
end
local IKE_PREFIX_BITS = 16
local IKE_BLOCK = 65536
local IKE_TWEAK = 65536
local function textV6(bytes)
local groups = {}
for at = 1, 16, 2 do
groups[#groups + 1] = bytes[at] * 256 + bytes[at + 1]
end
local bestAt, bestLength, at = 0, 1, 1
while at <= 8 do
local length = 0
while groups[at + length] == 0 do
length = length + 1
end
if length > bestLength then
bestAt, bestLength = at, length
end
at = at + math.max(length, 1)
end
local head, tail = {}, {}
for group = 1, 8 do
if bestAt == 0 or group < bestAt then
head[#head + 1] = string.format('%x', groups[group])
elseif group >= bestAt + bestLength then
tail[#tail + 1] = string.format('%x', groups[group])
end
end
local text = table.concat(head, ':')
return bestAt == 0 and text or text .. '::' .. table.concat(tail, ':')
end
local function addressText(prefix, host)
local bytes = {}
for pair in string.gmatch(prefix.hex, '%x%x') do
bytes[#bytes + 1] = tonumber(pair, 16)
end
local at = #bytes
while host > 0 do
bytes[at] = bytes[at] + host % 256
host = math.floor(host / 256)
at = at - 1
end
return #bytes == 4 and table.concat(bytes, '.') or textV6(bytes)
end
local function isV6(address)
return string.find(address, ':', 1, true) ~= nil
end
local function hexOf(address)
if not isV6(address) then
return string.format('%02x%02x%02x%02x', string.match(address, '(%d+)%.(%d+)%.(%d+)%.(%d+)'))
end
local function groupsOf(text)
return (string.gsub(text, '(%x+):?', function(group) return string.rep('0', 4 - #group) .. group end))
end
local head, tail = string.match(address, '^(.*)::(.*)$')
head, tail = groupsOf(head or address), groupsOf(tail or '')
return head .. string.rep('0', 32 - #head - #tail) .. tail
end
local function placeOfSlot(plan, slot)
slot = tonumber(slot)
for _, segment in ipairs(plan.segments) do
local number = slot - segment.first
if number >= 0 and number < segment.slots then
local ordinal = number % segment.addresses
for at, prefix in ipairs(segment.prefixes) do
if ordinal < prefix.addresses then
return { segment = segment, number = number, prefix = prefix, ordinal = ordinal, tweak = segment.tweak + at }
end
ordinal = ordinal - prefix.addresses
end
end
end
end
local function hostOf(plan, place)
return permute(place.ordinal, place.prefix.width, plan.key, place.tweak)
end
local function spisOf(plan, segment, number)
local block = number + plan.reservedSpiBlocks
repeat
block = permute(block, plan.spiWidth, plan.key, segment.tweak)
until block >= plan.reservedSpiBlocks
return block * plan.spiBlock
end
local function ikeSpisOf(plan, segment, number)
local block = number + 1
repeat
block = permute(block, IKE_PREFIX_BITS, plan.key, segment.tweak + IKE_TWEAK)
until block > 0
return block * IKE_BLOCK
end
local function blockText(first, count)
return whole(first) .. '/' .. whole(math.floor(math.log(count) / math.log(2) + 0.5))
end
local function resourcesOf(plan, slot, kind)
local place = placeOfSlot(plan, slot)
if not place then
return { address = '-', ports = '-', spis = '-', ikeSpis = '-' }
end
local address = addressText(place.prefix, hostOf(plan, place))
if plan.sharing == 'whole' then
return { address = address, ports = '-', spis = '-', ikeSpis = '-' }
end
local segment, number = place.segment, place.number
local block = plan.firstPortBlock + math.floor(number / segment.addresses)
return {
address = address,
ports = blockText(block * plan.portBlock, plan.portBlock),
spis = kind == 'rsipsec' and blockText(spisOf(plan, segment, number), plan.spiBlock) or '-',
ikeSpis = kind == 'rsipsec' and blockText(ikeSpisOf(plan, segment, number), IKE_BLOCK) or '-',
}
end
local function formerSlots(device)
local slots = {}
for slot in string.gmatch(redis.call('HGET', FORMER, 'd:' .. device) or '', '%d+') do
slots[#slots + 1] = slot
end
return slots
end
local function forgetFormer(device, slot)
local left = {}
for _, other in ipairs(formerSlots(device)) do
if other ~= slot then
left[#left + 1] = other
end
end
if #left > 0 then
redis.call('HSET', FORMER, 'd:' .. device, table.concat(left, ','))
else
redis.call('HDEL', FORMER, 'd:' .. device)
end
end
local function forgetSlot(slot)
local device = redis.call('HGET', FORMER, 's:' .. slot)
if device then
forgetFormer(device, slot)
redis.call('HDEL', FORMER, 's:' .. slot)
end
end
local function isFree(slot, device)
if tonumber(slot) >= tonumber(redis.call('HGET', META, 'frontier')) then
return true
end
local coolMs = redis.call('ZSCORE', COOLING, slot)
return coolMs and (tonumber(coolMs) <= now or redis.call('HGET', FORMER, 's:' .. slot) == device) or false
end
local function takeSlot(slot)
local number = tonumber(slot)
local frontier = tonumber(redis.call('HGET', META, 'frontier'))
if number < frontier then
redis.call('ZREM', COOLING, slot)
forgetSlot(slot)
return
end
for skipped = frontier, number - 1 do
redis.call('ZADD', COOLING, 0, whole(skipped))
end
redis.call('HSET', META, 'frontier', whole(number + 1))
end
local function coolSlot(slot, device)
local coolingMs = tonumber(redis.call('HGET', META, 'coolingMs'))
redis.call('ZADD', COOLING, whole(now + coolingMs), slot)
redis.call('HSET', FORMER, 's:' .. slot, device)
local former = formerSlots(device)
former[#former + 1] = slot
redis.call('HSET', FORMER, 'd:' .. device, table.concat(former, ','))
end
local function portsIn(text)
local first, width = string.match(text, '^(%d+)/(%d+)$')
return tonumber(first), first and 2 ^ tonumber(width)
end
local function slotsOfPorts(plan, slot, first, count)
local place = placeOfSlot(plan, slot)
if not place then
return nil
end
local segment, slots = place.segment, {}
local ordinal = place.number % segment.addresses
for block = first / plan.portBlock, (first + count) / plan.portBlock - 1 do
local row = block - plan.firstPortBlock
local number = row * segment.addresses + ordinal
if row < 0 or number >= segment.slots then
return nil
end
slots[#slots + 1] = whole(segment.first + number)
end
return slots
end
local function slotsIn(plan, lease)
local first, count = portsIn(lease.ports)
local isDoubled = first and count > plan.portBlock
return isDoubled and slotsOfPorts(plan, lease.slot, first, count) or { lease.slot }
end
local function countExtraSlots(more)
if more ~= 0 then
redis.call('HINCRBY', META, 'extraSlots', more)
end
end
local function slotsOf(lease)
if (redis.call('HGET', META, 'extraSlots') or '0') == '0' then
return { lease.slot }
end
return slotsIn(cjson.decode(redis.call('HGET', META, 'plan')), lease)
end
local function coolSlots(slots, device)
for _, slot in ipairs(slots) do
coolSlot(slot, device)
end
countExtraSlots(1 - #slots)
end
local function takeMoreSlots(slots)
for _, slot in ipairs(slots) do
takeSlot(slot)
end
countExtraSlots(#slots)
end
local function readServer()
return string.match(redis.call('INFO', 'replication'), 'master_replid:(%x+)')
end
local server = readServer()
local function forgetReport()
redis.call(
'HDEL', META, 'reportEpoch', 'reportRelay', 'reportBoot', 'reportCounter', 'reportUntilMs',
'reportPlan', 'reportAtMs', 'reportIsTold', 'reportAs', 'restoring', 'restMs', 'restTo', 'isInDoubt', 'isRestored'
)
redis.call('UNLINK', REPORT)
end
local function beginQuarantine(ms)
redis.call('HSETNX', META, 'wholeCounter', redis.call('HGET', META, 'counter') or 0)
redis.call('HSET', META, 'server', server, 'quarantineUntilMs', whole(now + ms))
redis.call('HDEL', META, 'isRaised')
forgetReport()
end
local function quarantined()
local of = redis.call('HMGET', META, 'server', 'quarantineUntilMs', 'quarantineMs')
if of[1] and of[1] ~= server then
beginQuarantine(tonumber(of[3]))
return true
end
return of[2] ~= false
end
local function tenantOf(device)
return string.match(device, '^[^/]*')
end
local function allowanceOf(tenant)
local used, allowed, number, epoch =
string.match(redis.call('HGET', TENANTS, tenant) or '0 0 0 0', '^(%d+) (%d+) (%d+) (%d+)$')
local isCurrent = epoch == redis.call('HGET', META, 'epoch')
return {
used = tonumber(used),
allowed = isCurrent and tonumber(allowed) or 0,
number = isCurrent and number or '0',
}
end
local function saveAllowance(tenant, allowance)
local epoch = redis.call('HGET', META, 'epoch')
local words = { whole(allowance.used), whole(allowance.allowed), allowance.number, epoch }
redis.call('HSET', TENANTS, tenant, table.concat(words, ' '))
end
local function countLease(device, more)
if redis.call('HEXISTS', META, 'maxLeasesPerTenant') == 0 then
return
end
local tenant = tenantOf(device)
local allowance = allowanceOf(tenant)
allowance.used = allowance.used + more
if allowance.used > 0 then
saveAllowance(tenant, allowance)
else
redis.call('HDEL', TENANTS, tenant)
end
end
local function leaseOf(id)
local name = nameOf(id)
local record = redis.call('HGET', LEASES, name)
return record and decodeLease(name, record)
end
local function save(lease)
redis.call('HSET', LEASES, nameOf(lease.id), encodeLease(lease))
end
local function sessionOf(device)
local record = redis.call('HGET', SESSIONS, device)
return record and decodeSession(device, record)
end
local function saveSession(session)
redis.call('HSET', SESSIONS, session.device, encodeSession(session))
end
local function announce(kind, lease, session)
lease.fence = takeFence()
publish(lease.fence, table.concat({ kind, nameOf(lease.id), session.id, encodeLease(lease) }, ' '))
end
local function shown(lease, session)
return table.concat({ lease.id, redis.call('HGET', META, 'pool'), session.id, encodeLease(lease) }, ' ')
end
local function forgetSession(session)
redis.call('HDEL', SESSIONS, session.device)
redis.call('SETBIT', INDEXES, session.index, 0)
redis.call('HDEL', HINTS, session.id)
end
local function leaveSession(session, lease)
local name = nameOf(lease.id)
local left = {}
for _, other in ipairs(session.leases) do
if other ~= name then
left[#left + 1] = other
end
end
session.leases = left
if #left > 0 then
saveSession(session)
else
forgetSession(session)
end
end
local function endLease(lease, reason)
local session = sessionOf(lease.device)
announce('ended ' .. reason, lease, session)
redis.call('HDEL', LEASES, nameOf(lease.id))
redis.call('ZREM', EXPIRIES, nameOf(lease.id))
countLease(lease.device, -1)
coolSlots(slotsOf(lease), lease.device)
leaveSession(session, lease)
remember(lease.id, 'C' .. (reason == 'withdrawn' and WITHDRAWN or REQUEST_ENDED) .. (reason == 'expired' and BY_TIME or ''))
return shown(lease, session)
end
local LOW_DIGITS = 12
local function lowOf(hex)
return tonumber(string.sub(hex, -LOW_DIGITS), 16)
end
local function ordinalOf(plan, segment, hex)
local before = 0
for at, prefix in ipairs(segment.prefixes) do
if #prefix.hex == #hex and string.sub(prefix.hex, 1, -LOW_DIGITS - 1) == string.sub(hex, 1, -LOW_DIGITS - 1) then
local host = lowOf(hex) - lowOf(prefix.hex)
if host >= 0 and host < 2 ^ prefix.width then
local ordinal = unpermute(host, prefix.width, plan.key, segment.tweak + at)
if ordinal < prefix.addresses then
return before + ordinal
end
end
end
before = before + prefix.addresses
end
end
local function slotOf(plan, hex, port)
local row = port and port / plan.portBlock - plan.firstPortBlock or 0
for _, segment in ipairs(plan.segments) do
local ordinal = ordinalOf(plan, segment, hex)
local number = ordinal and row * segment.addresses + ordinal
if number and number >= 0 and number < segment.slots then
return whole(segment.first + number)
end
end
end
local MOST_MISSED = 8
local function eachMissed()
local all = {}
for epoch, counter, untilMs in string.gmatch(redis.call('HGET', META, 'missed') or '', '(%d+) (%d+) (%d+);') do
if tonumber(untilMs) > now then
all[#all + 1] = { epoch = tonumber(epoch), counter = tonumber(counter), untilMs = tonumber(untilMs) }
end
end
return all
end
local function storeMissed(all)
local texts = {}
for at = math.max(1, #all - MOST_MISSED + 1), #all do
texts[#texts + 1] = table.concat({ whole(all[at].epoch), whole(all[at].counter), whole(all[at].untilMs) }, ' ') .. ';'
end
redis.call('HSET', META, 'missed', table.concat(texts))
end
local function missing(all, epoch, counter)
for _, one in ipairs(all) do
if epoch < one.epoch then
return counter > one.counter and one or nil
end
end
end
local function counterIn(fence)
return tonumber(string.match(fence, '%-(%d+)$'))
end
local function lostSlots(plan, stored, lease)
local held, lost = {}, {}
for _, slot in ipairs(stored and slotsIn(plan, stored) or {}) do
held[slot] = true
end
local frontier = tonumber(redis.call('HGET', META, 'frontier'))
for _, slot in ipairs(slotsIn(plan, lease)) do
if not held[slot] then
if tonumber(slot) < frontier and not redis.call('ZSCORE', COOLING, slot) then
return nil
end
lost[#lost + 1] = slot
end
end
return lost
end
local function heldFrom(text, saidMs)
local id, session, record = string.match(text, '^(%S+) %S+ (%S+) (.*)$')
local lease = decodeLease(nameOf(id), record)
lease.session = session
lease.remainingMs = lease.expiresAtMs - (now - saidMs)
return lease
end
local function restoreSession(session)
local other = sessionOf(session.device)
if other and other.id == session.id then
return other
end
if other then
session.leases = other.leases
forgetSession(other)
end
redis.call('SETBIT', INDEXES, session.index, 1)
local next = tonumber(redis.call('HGET', META, 'nextIndex') or 0)
redis.call('HSET', META, 'nextIndex', whole(math.max(next, session.index)))
return session
end
local function joinSession(session, lease)
local name = nameOf(lease.id)
for _, other in ipairs(session.leases) do
if other == name then
return
end
end
session.leases[#session.leases + 1] = name
end
if quarantined() then
return QUARANTINED
end
local stored = redis.call('HGET', META, 'plan')
if not stored then
return UNDECLARED
end
local plan = cjson.decode(stored)
local all = eachMissed()
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
local function sessionFor(lease, record)
local present = sessionOf(lease.device)
if present then
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
local function bringBack(lease, record)
local epoch = tonumber(string.match(lease.fence, '^%d+'))
if not missing(all, epoch, counterIn(lease.fence)) or lease.remainingMs <= 0 then
return
end
local known = leaseOf(lease.id)
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
if ARGV[3] == '1' then
seen.counter = tonumber(ARGV[2])
storeMissed(all)
end
return 1`,
  },
  call_in: {
    name: 'mooring_call_in_0baca3ee8cc0',
    keys: 15,
    lua: `local QUARANTINED = -16
local function readNow()
local time = redis.call('TIME')
return time[1] * 1000 + math.floor(time[2] / 1000)
end
local now = readNow()
local META, LEASES, SESSIONS, INDEXES, EXPIRIES, COOLING, FORMER, ANSWERS, ANSWERED, STREAM, HINTS, REPORT, TENANTS, CHANNEL, OLDER =
unpack(KEYS)
local SCHEMA = '2'
local function whole(number)
return string.format('%.0f', number)
end
local schema = redis.call('HGET', META, 'schema')
if schema and schema ~= SCHEMA then
error({ err = 'MOORINGSCHEMA ' .. schema })
end
local function nextNumber()
return whole(math.max(tonumber(redis.call('HGET', META, 'allowanceNumber') or 0) + 1, now))
end
local function takeNumber()
local number = nextNumber()
redis.call('HSET', META, 'allowanceNumber', number)
return number
end
local function allowanceOf(tenant)
local used, allowed, number, epoch =
string.match(redis.call('HGET', TENANTS, tenant) or '0 0 0 0', '^(%d+) (%d+) (%d+) (%d+)$')
local isCurrent = epoch == redis.call('HGET', META, 'epoch')
return {
used = tonumber(used),
allowed = isCurrent and tonumber(allowed) or 0,
number = isCurrent and number or '0',
}
end
local function saveAllowance(tenant, allowance)
local epoch = redis.call('HGET', META, 'epoch')
local words = { whole(allowance.used), whole(allowance.allowed), allowance.number, epoch }
redis.call('HSET', TENANTS, tenant, table.concat(words, ' '))
end
local function readServer()
return string.match(redis.call('INFO', 'replication'), 'master_replid:(%x+)')
end
local server = readServer()
local function forgetReport()
redis.call(
'HDEL', META, 'reportEpoch', 'reportRelay', 'reportBoot', 'reportCounter', 'reportUntilMs',
'reportPlan', 'reportAtMs', 'reportIsTold', 'reportAs', 'restoring', 'restMs', 'restTo', 'isInDoubt', 'isRestored'
)
redis.call('UNLINK', REPORT)
end
local function beginQuarantine(ms)
redis.call('HSETNX', META, 'wholeCounter', redis.call('HGET', META, 'counter') or 0)
redis.call('HSET', META, 'server', server, 'quarantineUntilMs', whole(now + ms))
redis.call('HDEL', META, 'isRaised')
forgetReport()
end
local function quarantined()
local of = redis.call('HMGET', META, 'server', 'quarantineUntilMs', 'quarantineMs')
if of[1] and of[1] ~= server then
beginQuarantine(tonumber(of[3]))
return true
end
return of[2] ~= false
end
local function quarantineIsOver()
return tonumber(redis.call('HGET', META, 'quarantineUntilMs')) <= now
end
if quarantined() and not (quarantineIsOver() and redis.call('HEXISTS', META, 'reportRelay') == 0) then
return QUARANTINED
end
if redis.call('HGET', META, 'pool') ~= ARGV[1] or redis.call('HEXISTS', TENANTS, ARGV[2]) == 0 then
return { 0, nextNumber() }
end
local allowance = allowanceOf(ARGV[2])
if allowance.used > 0 then
allowance.allowed = math.min(allowance.allowed, allowance.used)
allowance.number = takeNumber()
saveAllowance(ARGV[2], allowance)
return { allowance.used, allowance.number }
end
redis.call('HDEL', TENANTS, ARGV[2])
return { 0, takeNumber() }`,
  },
  claim: {
    name: 'mooring_claim_33fbdf6566f6',
    keys: 15,
    lua: `#!lua flags=allow-oom
local UNDECLARED = -1
local OWNED_BY_ANOTHER = -2
local NOT_HOME = -12
local QUARANTINED = -16
local RESTORING = -21
local function readNow()
local time = redis.call('TIME')
return time[1] * 1000 + math.floor(time[2] / 1000)
end
local now = readNow()
local META, LEASES, SESSIONS, INDEXES, EXPIRIES, COOLING, FORMER, ANSWERS, ANSWERED, STREAM, HINTS, REPORT, TENANTS, CHANNEL, OLDER =
unpack(KEYS)
local SCHEMA = '2'
local function whole(number)
return string.format('%.0f', number)
end
local schema = redis.call('HGET', META, 'schema')
if schema and schema ~= SCHEMA then
error({ err = 'MOORINGSCHEMA ' .. schema })
end
local MOST_EVENTS = 512
local LEAST_EVENTS = 64
local function takeFence()
local counter = redis.call('HINCRBY', META, 'counter', 1)
return redis.call('HGET', META, 'epoch') .. '-' .. whole(counter)
end
local function publish(fence, event)
local length = math.max(LEAST_EVENTS, math.min(MOST_EVENTS, redis.call('HLEN', LEASES)))
redis.call('XADD', STREAM, 'MAXLEN', '~', length, fence, 'event', event)
redis.call('SPUBLISH', CHANNEL, fence)
end
local function readServer()
return string.match(redis.call('INFO', 'replication'), 'master_replid:(%x+)')
end
local server = readServer()
local EPOCHS_LOST = 65536
local FENCES_LOST = 1000
local function forgetReport()
redis.call(
'HDEL', META, 'reportEpoch', 'reportRelay', 'reportBoot', 'reportCounter', 'reportUntilMs',
'reportPlan', 'reportAtMs', 'reportIsTold', 'reportAs', 'restoring', 'restMs', 'restTo', 'isInDoubt', 'isRestored'
)
redis.call('UNLINK', REPORT)
end
local function beginQuarantine(ms)
redis.call('HSETNX', META, 'wholeCounter', redis.call('HGET', META, 'counter') or 0)
redis.call('HSET', META, 'server', server, 'quarantineUntilMs', whole(now + ms))
redis.call('HDEL', META, 'isRaised')
forgetReport()
end
local function quarantined()
local of = redis.call('HMGET', META, 'server', 'quarantineUntilMs', 'quarantineMs')
if of[1] and of[1] ~= server then
beginQuarantine(tonumber(of[3]))
return true
end
return of[2] ~= false
end
local function isBehind(epoch)
local of = redis.call('HMGET', META, 'epoch', 'quarantineMs')
if not of[1] or tonumber(of[1]) >= tonumber(epoch or 0) then
return false
end
beginQuarantine(tonumber(of[2]))
return true
end
local function quarantineIsOver()
return tonumber(redis.call('HGET', META, 'quarantineUntilMs')) <= now
end
local function awaitsReportOf(other)
local of = redis.call('HMGET', META, 'reportRelay', 'reportUntilMs')
return of[1] and of[1] ~= other and tonumber(of[2]) > now
end
local function raise()
local of = redis.call('HMGET', META, 'epoch', 'counter', 'reportEpoch', 'reportCounter', 'isRaised')
if of[5] and tonumber(of[3] or 0) < tonumber(of[1]) and tonumber(of[4] or 0) < tonumber(of[2]) then
return
end
local epoch = math.max(tonumber(of[1]), tonumber(of[3] or 0), now) + EPOCHS_LOST + now % EPOCHS_LOST
local counter = math.max(tonumber(of[2]), tonumber(of[4] or 0)) + FENCES_LOST
redis.call('HSET', META, 'epoch', whole(epoch), 'counter', whole(counter), 'isRaised', '1')
end
local function endQuarantine()
redis.call('HDEL', META, 'quarantineUntilMs', 'isRaised', 'wholeCounter')
forgetReport()
end
local function owner()
local of = redis.call('HMGET', META, 'owner', 'boot', 'epoch', 'untilMs', 'home', 'standby', 'standbyBoot')
return {
relay = of[1],
boot = of[2],
epoch = of[3],
untilMs = tonumber(of[4] or 0),
home = of[5],
standby = of[6],
standbyBoot = of[7],
}
end
local function holdUntil(untilMs)
redis.call('HSET', META, 'untilMs', whole(untilMs))
end
local function own(relay, boot, ttlMs)
local epoch = redis.call('HINCRBY', META, 'epoch', 1)
local fence = takeFence()
publish(fence, 'owned ' .. relay)
redis.call('HSET', META, 'owner', relay, 'boot', boot)
redis.call('HDEL', META, 'standby', 'standbyBoot')
holdUntil(now + ttlMs)
return whole(epoch)
end
local KEEP_MS = 3600000
local function mostBlocks(plan)
local most = tonumber(redis.call('HGET', META, 'maxPortBlock') or plan.portBlock)
return plan.sharing == 'whole' and 1 or math.max(1, most / plan.portBlock)
end
local MOST_MISSED = 8
local function eachMissed()
local all = {}
for epoch, counter, untilMs in string.gmatch(redis.call('HGET', META, 'missed') or '', '(%d+) (%d+) (%d+);') do
if tonumber(untilMs) > now then
all[#all + 1] = { epoch = tonumber(epoch), counter = tonumber(counter), untilMs = tonumber(untilMs) }
end
end
return all
end
local function storeMissed(all)
local texts = {}
for at = math.max(1, #all - MOST_MISSED + 1), #all do
texts[#texts + 1] = table.concat({ whole(all[at].epoch), whole(all[at].counter), whole(all[at].untilMs) }, ' ') .. ';'
end
redis.call('HSET', META, 'missed', table.concat(texts))
end
local function noteMissed(epoch, counter)
local all = eachMissed()
all[#all + 1] = { epoch = epoch, counter = counter, untilMs = now + KEEP_MS }
storeMissed(all)
end
local function followPlan(plan)
if not plan or plan == '' then
return
end
local of = cjson.decode(plan)
local stored = redis.call('HGET', META, 'plan')
local known = stored and cjson.decode(stored)
local isEmptied = redis.call('HGET', META, 'frontier') == '0' and redis.call('HLEN', LEASES) == 0
local hasGrown = known and of.slots > known.slots and table.concat(of.key, ' ') == table.concat(known.key, ' ')
if isEmptied or hasGrown then
redis.call('HSET', META, 'plan', plan, 'pool', of.pool, 'capacity', of.capacity, 'slots', of.slots)
end
end
local function noteLostEnd(reportEpoch, wholeCounter)
if reportEpoch - tonumber(redis.call('HGET', META, 'epoch')) >= EPOCHS_LOST then
noteMissed(reportEpoch, wholeCounter)
end
end
local function beginRestoring(how)
local of = redis.call('HMGET', META, 'reportIsTold', 'reportPlan', 'reportCounter', 'wholeCounter', 'coolingMs', 'reportAs', 'reportEpoch')
if of[1] then
followPlan(of[2])
end
local isInDoubt = not of[1] or of[6] ~= 'owner'
local lost = isInDoubt and FENCES_LOST or math.max(0, tonumber(of[3]) - tonumber(of[4]))
noteLostEnd(of[1] and tonumber(of[7]) or 0, tonumber(of[4] or 0))
raise()
noteMissed(tonumber(redis.call('HGET', META, 'epoch')), math.max(tonumber(of[4] or 0), of[1] and tonumber(of[3]) or 0))
redis.call('HINCRBY', META, 'nextIndex', FENCES_LOST)
if isInDoubt then
redis.call('HSET', META, 'isInDoubt', '1')
end
if lost > 0 then
local at = redis.call('HMGET', META, 'frontier', 'slots')
local plan = redis.call('HGET', META, 'plan')
local most = plan and mostBlocks(cjson.decode(plan)) > 1 and tonumber(at[2]) or tonumber(at[1]) + lost
local to = math.max(tonumber(at[1]), math.min(most, tonumber(at[2])))
redis.call('HSET', META, 'restMs', whole(now + tonumber(of[5])), 'restTo', whole(to))
end
redis.call('HSET', META, 'restoring', how .. (of[1] and ' ended 0' or ' rest 0'))
end
local older = redis.call('TYPE', OLDER).ok == 'hash' and redis.call('HMGET', OLDER, 'owner', 'untilMs', 'epoch', 'counter')
if older then
local of = redis.call('HMGET', META, 'home', 'epoch', 'counter', 'quarantineMs')
if not of[1] then
return UNDECLARED
end
if older[1] and older[1] ~= ARGV[1] and tonumber(older[2]) > now then
return OWNED_BY_ANOTHER
end
if of[1] ~= ARGV[1] and older[1] ~= ARGV[1] and ARGV[4] ~= '1' then
return NOT_HOME
end
redis.call('SET', OLDER, 'layout ' .. SCHEMA)
local function above(one, other)
return whole(math.max(tonumber(one or 0), tonumber(other or 0)))
end
beginQuarantine(tonumber(of[4]))
redis.call('HSET', META, 'epoch', above(of[2], older[3]), 'counter', above(of[3], older[4]))
return QUARANTINED
end
if not quarantined() and isBehind(ARGV[5]) then
return QUARANTINED
end
local endsQuarantine = quarantined()
if redis.call('HEXISTS', META, 'restoring') == 1 then
return RESTORING
end
if endsQuarantine and (not quarantineIsOver() or awaitsReportOf(ARGV[1])) then
return QUARANTINED
end
local current = owner()
if not current.home then
return UNDECLARED
end
if not endsQuarantine and current.relay == ARGV[1] and current.boot == ARGV[2] then
holdUntil(math.max(current.untilMs, now + ARGV[3]))
return current.epoch
end
if current.relay ~= ARGV[1] then
if current.relay and current.untilMs > now then
return OWNED_BY_ANOTHER
end
local isStandby = current.standby == ARGV[1] and current.standbyBoot == ARGV[2]
if ARGV[4] ~= '1' and current.relay and not isStandby then
return OWNED_BY_ANOTHER
end
if ARGV[4] ~= '1' and not current.relay and current.home ~= ARGV[1] then
return NOT_HOME
end
end
if endsQuarantine then
if redis.call('HEXISTS', META, 'isRestored') == 0 then
beginRestoring('claim')
return RESTORING
end
endQuarantine()
end
return own(ARGV[1], ARGV[2], ARGV[3])`,
  },
  confirm: {
    name: 'mooring_confirm_2fdf1d204c7f',
    keys: 1,
    lua: `#!lua flags=allow-oom
local INDEX = unpack(KEYS)
redis.call('HSET', INDEX, ARGV[1], '+' .. ARGV[2])
return 'OK'`,
  },
  deal: {
    name: 'mooring_deal_57667d8eade7',
    keys: 2,
    lua: `local function readNow()
local time = redis.call('TIME')
return time[1] * 1000 + math.floor(time[2] / 1000)
end
local now = readNow()
local function readServer()
return string.match(redis.call('INFO', 'replication'), 'master_replid:(%x+)')
end
local server = readServer()
local DEALT, ASKED = unpack(KEYS)
local KEEP_MS = 604800000
local function whole(number)
return string.format('%.0f', number)
end
local function dealtTo(anchor)
local dealt, number = string.match(redis.call('HGET', DEALT, anchor) or '0 0', '^(%d+) (%d+)$')
return tonumber(dealt), tonumber(number)
end
local function dealtInAll()
return tonumber(redis.call('HGET', DEALT, ':total') or 0)
end
local function note(anchor, dealt, number)
redis.call('HINCRBY', DEALT, ':total', whole(dealt - dealtTo(anchor)))
if dealt > 0 then
redis.call('HSET', DEALT, anchor, whole(dealt) .. ' ' .. whole(number))
redis.call('ZADD', ASKED, whole(now), anchor)
else
redis.call('HDEL', DEALT, anchor)
redis.call('ZREM', ASKED, anchor)
end
end
local function keep()
redis.call('PEXPIRE', DEALT, KEEP_MS)
redis.call('PEXPIRE', ASKED, KEEP_MS)
end
local SHARE = 8
local MOST = 64
local AT_ONCE = 16
local PAUSE_MS = 200
local limit, anchor, used, number = tonumber(ARGV[2]), ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
local history = server .. '/' .. ARGV[1]
if redis.call('HGET', DEALT, ':whole') ~= history then
return { history }
end
keep()
local dealt, known = dealtTo(anchor)
if number < known then
return { history, dealt }
end
local others = dealtInAll() - dealt
if number > known then
dealt = used
end
if dealt <= used then
local room = math.max(0, limit - others - used)
dealt = used + math.min(room, MOST, math.ceil(room / SHARE))
end
note(anchor, dealt, number)
dealt = math.min(dealt, math.max(used, limit - others))
local answer = { history, dealt }
if dealt <= used then
for _, other in ipairs(redis.call('ZRANGEBYSCORE', ASKED, '-inf', whole(now - PAUSE_MS), 'LIMIT', 0, AT_ONCE + 1)) do
if other ~= anchor then
redis.call('ZADD', ASKED, whole(now), other)
answer[#answer + 1] = other
end
end
end
return answer`,
  },
  declare: {
    name: 'mooring_declare_aa5ba3633281',
    keys: 15,
    lua: `local LEASES_WOULD_BE_ORPHANED = -8
local QUARANTINED = -16
local PLAN_MOVED = -17
local function readNow()
local time = redis.call('TIME')
return time[1] * 1000 + math.floor(time[2] / 1000)
end
local now = readNow()
local META, LEASES, SESSIONS, INDEXES, EXPIRIES, COOLING, FORMER, ANSWERS, ANSWERED, STREAM, HINTS, REPORT, TENANTS, CHANNEL, OLDER =
unpack(KEYS)
local SCHEMA = '2'
local function whole(number)
return string.format('%.0f', number)
end
local schema = redis.call('HGET', META, 'schema')
if schema and schema ~= SCHEMA then
error({ err = 'MOORINGSCHEMA ' .. schema })
end
local function readServer()
return string.match(redis.call('INFO', 'replication'), 'master_replid:(%x+)')
end
local server = readServer()
local function forgetReport()
redis.call(
'HDEL', META, 'reportEpoch', 'reportRelay', 'reportBoot', 'reportCounter', 'reportUntilMs',
'reportPlan', 'reportAtMs', 'reportIsTold', 'reportAs', 'restoring', 'restMs', 'restTo', 'isInDoubt', 'isRestored'
)
redis.call('UNLINK', REPORT)
end
local function beginQuarantine(ms)
redis.call('HSETNX', META, 'wholeCounter', redis.call('HGET', META, 'counter') or 0)
redis.call('HSET', META, 'server', server, 'quarantineUntilMs', whole(now + ms))
redis.call('HDEL', META, 'isRaised')
forgetReport()
end
local function quarantined()
local of = redis.call('HMGET', META, 'server', 'quarantineUntilMs', 'quarantineMs')
if of[1] and of[1] ~= server then
beginQuarantine(tonumber(of[3]))
return true
end
return of[2] ~= false
end
local MOST_EVENTS = 512
local LEAST_EVENTS = 64
local function takeFence()
local counter = redis.call('HINCRBY', META, 'counter', 1)
return redis.call('HGET', META, 'epoch') .. '-' .. whole(counter)
end
local function publish(fence, event)
local length = math.max(LEAST_EVENTS, math.min(MOST_EVENTS, redis.call('HLEN', LEASES)))
redis.call('XADD', STREAM, 'MAXLEN', '~', length, fence, 'event', event)
redis.call('SPUBLISH', CHANNEL, fence)
end
local FIELDS_AT_ONCE = 2048
local function tenantOf(device)
return string.match(device, '^[^/]*')
end
local function limitTenants(most)
redis.call('UNLINK', TENANTS)
if most == '' then
redis.call('HDEL', META, 'maxLeasesPerTenant')
return
end
redis.call('HSET', META, 'maxLeasesPerTenant', most)
local used = {}
for _, record in ipairs(redis.call('HVALS', LEASES)) do
local tenant = tenantOf(record)
used[tenant] = (used[tenant] or 0) + 1
end
local fields = {}
for tenant, count in pairs(used) do
fields[#fields + 1] = tenant
fields[#fields + 1] = whole(count) .. ' 0 0 0'
if #fields == FIELDS_AT_ONCE then
redis.call('HSET', TENANTS, unpack(fields))
fields = {}
end
end
if #fields > 0 then
redis.call('HSET', TENANTS, unpack(fields))
end
end
local stored = redis.call('HMGET', META, 'plan', 'declaration')
local isKnown = stored[2] ~= false
local isMoving = stored[1] ~= ARGV[2]
if isMoving then
if quarantined() then
return QUARANTINED
end
if (stored[1] or '') ~= ARGV[1] then
return PLAN_MOVED
end
if ARGV[3] == '1' and stored[1] then
if redis.call('HLEN', LEASES) > 0 or redis.call('ZCOUNT', COOLING, '(' .. whole(now), '+inf') > 0 then
return LEASES_WOULD_BE_ORPHANED
end
redis.call('UNLINK', COOLING, FORMER)
end
if ARGV[3] == '1' then
redis.call('HSET', META, 'frontier', 0)
end
local plan = cjson.decode(ARGV[2])
redis.call('HSET', META, 'plan', ARGV[2], 'pool', plan.pool, 'capacity', plan.capacity, 'slots', plan.slots)
end
redis.call(
'HSET', META, 'schema', SCHEMA, 'declaration', ARGV[4], 'home', ARGV[5], 'coolingMs', ARGV[6], 'spiCoolingMs', ARGV[7],
'longestLeaseMs', ARGV[8], 'shortestLeaseMs', ARGV[9], 'drains', ARGV[10], 'quarantineMs', ARGV[11],
'maxPortBlock', ARGV[12]
)
redis.call('HSETNX', META, 'epoch', 0)
redis.call('HSETNX', META, 'counter', 0)
redis.call('HSETNX', META, 'server', server)
if ARGV[3] == '1' or (redis.call('HGET', META, 'maxLeasesPerTenant') or '') ~= ARGV[13] then
limitTenants(ARGV[13])
end
if isMoving and isKnown then
publish(takeFence(), 'declared')
end
return isKnown and cjson.decode(stored[2]).pool or ''`,
  },
  deregister: {
    name: 'mooring_deregister_019c423f3683',
    keys: 1,
    lua: `#!lua flags=allow-oom
local INDEX = unpack(KEYS)
return redis.call('HDEL', INDEX, 'client')`,
  },
  describe: {
    name: 'mooring_describe_3269a28c615d',
    keys: 15,
    lua: `local UNDECLARED = -1
local function readNow()
local time = redis.call('TIME')
return time[1] * 1000 + math.floor(time[2] / 1000)
end
local now = readNow()
local META, LEASES, SESSIONS, INDEXES, EXPIRIES, COOLING, FORMER, ANSWERS, ANSWERED, STREAM, HINTS, REPORT, TENANTS, CHANNEL, OLDER =
unpack(KEYS)
local SCHEMA = '2'
local schema = redis.call('HGET', META, 'schema')
if schema and schema ~= SCHEMA then
error({ err = 'MOORINGSCHEMA ' .. schema })
end
local meta = redis.call('HMGET', META, 'epoch', 'owner', 'boot', 'untilMs', 'declaration', 'capacity', 'standby', 'standbyBoot')
if not meta[5] then
return UNDECLARED
end
return { now, meta[1], meta[2] or '', meta[3] or '', meta[4] or '0', meta[5], meta[6], meta[7] or '', meta[8] or '' }`,
  },
  extend: {
    name: 'mooring_extend_42e63051d2e5',
    keys: 15,
    lua: `#!lua flags=allow-oom
local BAD_BIND = -6
local QUARANTINED = -16
local PORTS_UNAVAILABLE = -36
local function readNow()
local time = redis.call('TIME')
return time[1] * 1000 + math.floor(time[2] / 1000)
end
local now = readNow()
local META, LEASES, SESSIONS, INDEXES, EXPIRIES, COOLING, FORMER, ANSWERS, ANSWERED, STREAM, HINTS, REPORT, TENANTS, CHANNEL, OLDER =
unpack(KEYS)
local SCHEMA = '2'
local function whole(number)
return string.format('%.0f', number)
end
local schema = redis.call('HGET', META, 'schema')
if schema and schema ~= SCHEMA then
error({ err = 'MOORINGSCHEMA ' .. schema })
end
local MOST_EVENTS = 512
local LEAST_EVENTS = 64
local function takeFence()
local counter = redis.call('HINCRBY', META, 'counter', 1)
return redis.call('HGET', META, 'epoch') .. '-' .. whole(counter)
end
local function publish(fence, event)
local length = math.max(LEAST_EVENTS, math.min(MOST_EVENTS, redis.call('HLEN', LEASES)))
redis.call('XADD', STREAM, 'MAXLEN', '~', length, fence, 'event', event)
redis.call('SPUBLISH', CHANNEL, fence)
end
local LEASE_WORDS = '^' .. string.rep('(%S+) ', 10) .. '(%S+)$'
local SESSION_WORDS = '^' .. string.rep('(%S+) ', 5) .. '(%S+)$'
local ANCHOR_NAME = string.match(META, '{a:(.*)}')
local function nameOf(id)
return string.sub(id, #ANCHOR_NAME + 2)
end
local function encodeLease(lease)
local pending = lease.state == 'pending' and whole(lease.pendingUntilMs) or '-'
return table.concat({
lease.device, lease.slot, lease.address, lease.ports, lease.spis, lease.ikeSpis, lease.remote, pending,
whole(lease.expiresAtMs), lease.fence, whole(lease.bindId),
}, ' ')
end
local function decodeLease(name, record)
local device, slot, address, ports, spis, ikeSpis, remote, pending, expires, fence, bindId =
string.match(record, LEASE_WORDS)
return {
id = ANCHOR_NAME .. '.' .. name,
device = device,
slot = slot,
address = address,
ports = ports,
spis = spis,
ikeSpis = ikeSpis,
remote = remote,
state = pending == '-' and 'active' or 'pending',
pendingUntilMs = tonumber(pending),
expiresAtMs = tonumber(expires),
fence = fence,
bindId = tonumber(bindId),
}
end
local function decodeSession(device, record)
local index, id, thumbprint, salt, replaces, named = string.match(record, SESSION_WORDS)
local leases = {}
for name in string.gmatch(named, '[^,]+') do
leases[#leases + 1] = name
end
return {
device = device,
index = index,
id = id,
thumbprint = thumbprint,
salt = salt,
replaces = replaces,
leases = leases,
}
end
local KEEP_MS = 3600000
local KEEP_COUNT = 16384
local function recall(request)
return redis.call('HGET', ANSWERS, request)
end
local function forgetOldest(count)
local oldest = redis.call('ZPOPMIN', ANSWERED, count)
for at = 1, #oldest, 2 do
redis.call('HDEL', ANSWERS, oldest[at])
end
end
local function remember(request, answer)
redis.call('HSET', ANSWERS, request, answer)
redis.call('ZADD', ANSWERED, whole(now + KEEP_MS), request)
local surplus = redis.call('ZCARD', ANSWERED) - KEEP_COUNT
if surplus > 0 then
forgetOldest(surplus)
redis.call('HDEL', META, 'missed')
end
for _ = 1, 2 do
local first = redis.call('ZRANGE', ANSWERED, 0, 0, 'WITHSCORES')
if first[2] == nil or tonumber(first[2]) > now then
break
end
forgetOldest(1)
end
end
local WORD = 4294967296
local ROUNDS = 4
local function times(a, b)
local high = math.floor(a / 65536)
local low = a % 65536
return ((high * b) % 65536 * 65536 + low * b) % WORD
end
local function mix(value)
value = bit.bxor(value, bit.rshift(value, 16)) % WORD
value = times(value, 2246822507)
value = bit.bxor(value, bit.rshift(value, 13)) % WORD
value = times(value, 3266489909)
return bit.bxor(value, bit.rshift(value, 16)) % WORD
end
local function walk(value, width, key, tweak, from, to, step)
local leftWidth = math.floor(width / 2)
local leftSize = 2 ^ leftWidth
local rightSize = 2 ^ (width - leftWidth)
local left = math.floor(value / rightSize)
local right = value % rightSize
for round = from, to, step do
local word = (key[(round - 1) % #key + 1] + times(round + tweak * ROUNDS, 2654435769)) % WORD
if round % 2 == 1 then
left = bit.bxor(left, mix((right + word) % WORD) % leftSize) % WORD
else
right = bit.bxor(right, mix((left + word) % WORD) % rightSize) % WORD
end
end
return left * rightSize + right
end
local function permute(value, width, key, tweak)
return walk(value, width, key, tweak, 1, ROUNDS, 1)
end
local function placeOfSlot(plan, slot)
slot = tonumber(slot)
for _, segment in ipairs(plan.segments) do
local number = slot - segment.first
if number >= 0 and number < segment.slots then
local ordinal = number % segment.addresses
for at, prefix in ipairs(segment.prefixes) do
if ordinal < prefix.addresses then
return { segment = segment, number = number, prefix = prefix, ordinal = ordinal, tweak = segment.tweak + at }
end
ordinal = ordinal - prefix.addresses
end
end
end
end
local function hostOf(plan, place)
return permute(place.ordinal, place.prefix.width, plan.key, place.tweak)
end
local function closedRange(plan, place)
if not place.prefix.closed then
return nil
end
local host = hostOf(plan, place)
for _, range in ipairs(place.prefix.closed) do
if host >= range.from and host < range.from + range.count then
return range
end
end
end
local function isOpen(plan, slot)
local place = placeOfSlot(plan, slot)
return place ~= nil and closedRange(plan, place) == nil
end
local function blockText(first, count)
return whole(first) .. '/' .. whole(math.floor(math.log(count) / math.log(2) + 0.5))
end
local function formerSlots(device)
local slots = {}
for slot in string.gmatch(redis.call('HGET', FORMER, 'd:' .. device) or '', '%d+') do
slots[#slots + 1] = slot
end
return slots
end
local function forgetFormer(device, slot)
local left = {}
for _, other in ipairs(formerSlots(device)) do
if other ~= slot then
left[#left + 1] = other
end
end
if #left > 0 then
redis.call('HSET', FORMER, 'd:' .. device, table.concat(left, ','))
else
redis.call('HDEL', FORMER, 'd:' .. device)
end
end
local function forgetSlot(slot)
local device = redis.call('HGET', FORMER, 's:' .. slot)
if device then
forgetFormer(device, slot)
redis.call('HDEL', FORMER, 's:' .. slot)
end
end
local function isFree(slot, device)
if tonumber(slot) >= tonumber(redis.call('HGET', META, 'frontier')) then
return true
end
local coolMs = redis.call('ZSCORE', COOLING, slot)
return coolMs and (tonumber(coolMs) <= now or redis.call('HGET', FORMER, 's:' .. slot) == device) or false
end
local function mostBlocks(plan)
local most = tonumber(redis.call('HGET', META, 'maxPortBlock') or plan.portBlock)
return plan.sharing == 'whole' and 1 or math.max(1, most / plan.portBlock)
end
local function takeSlot(slot)
local number = tonumber(slot)
local frontier = tonumber(redis.call('HGET', META, 'frontier'))
if number < frontier then
redis.call('ZREM', COOLING, slot)
forgetSlot(slot)
return
end
for skipped = frontier, number - 1 do
redis.call('ZADD', COOLING, 0, whole(skipped))
end
redis.call('HSET', META, 'frontier', whole(number + 1))
end
local function portsIn(text)
local first, width = string.match(text, '^(%d+)/(%d+)$')
return tonumber(first), first and 2 ^ tonumber(width)
end
local function slotsOfPorts(plan, slot, first, count)
local place = placeOfSlot(plan, slot)
if not place then
return nil
end
local segment, slots = place.segment, {}
local ordinal = place.number % segment.addresses
for block = first / plan.portBlock, (first + count) / plan.portBlock - 1 do
local row = block - plan.firstPortBlock
local number = row * segment.addresses + ordinal
if row < 0 or number >= segment.slots then
return nil
end
slots[#slots + 1] = whole(segment.first + number)
end
return slots
end
local function slotsIn(plan, lease)
local first, count = portsIn(lease.ports)
local isDoubled = first and count > plan.portBlock
return isDoubled and slotsOfPorts(plan, lease.slot, first, count) or { lease.slot }
end
local function countExtraSlots(more)
if more ~= 0 then
redis.call('HINCRBY', META, 'extraSlots', more)
end
end
local function takeMoreSlots(slots)
for _, slot in ipairs(slots) do
takeSlot(slot)
end
countExtraSlots(#slots)
end
local function doubledFor(lease, wished)
local plan = cjson.decode(redis.call('HGET', META, 'plan'))
local first, count = portsIn(lease.ports)
local most = mostBlocks(plan) * plan.portBlock
while first and count < wished and count <= most do
count = count * 2
end
if not first or count > most or not isOpen(plan, lease.slot) then
return nil
end
first = first - first % count
local slots, held, more = slotsOfPorts(plan, lease.slot, first, count), {}, {}
if not slots then
return nil
end
for _, slot in ipairs(slotsIn(plan, lease)) do
held[slot] = true
end
for _, slot in ipairs(slots) do
if not held[slot] then
if not isFree(slot, lease.device) then
return nil
end
more[#more + 1] = slot
end
end
return { blockText(first, count), more }
end
local function readServer()
return string.match(redis.call('INFO', 'replication'), 'master_replid:(%x+)')
end
local server = readServer()
local function forgetReport()
redis.call(
'HDEL', META, 'reportEpoch', 'reportRelay', 'reportBoot', 'reportCounter', 'reportUntilMs',
'reportPlan', 'reportAtMs', 'reportIsTold', 'reportAs', 'restoring', 'restMs', 'restTo', 'isInDoubt', 'isRestored'
)
redis.call('UNLINK', REPORT)
end
local function beginQuarantine(ms)
redis.call('HSETNX', META, 'wholeCounter', redis.call('HGET', META, 'counter') or 0)
redis.call('HSET', META, 'server', server, 'quarantineUntilMs', whole(now + ms))
redis.call('HDEL', META, 'isRaised')
forgetReport()
end
local function quarantined()
local of = redis.call('HMGET', META, 'server', 'quarantineUntilMs', 'quarantineMs')
if of[1] and of[1] ~= server then
beginQuarantine(tonumber(of[3]))
return true
end
return of[2] ~= false
end
local function leaseOf(id)
local name = nameOf(id)
local record = redis.call('HGET', LEASES, name)
return record and decodeLease(name, record)
end
local function save(lease)
redis.call('HSET', LEASES, nameOf(lease.id), encodeLease(lease))
end
local function sessionOf(device)
local record = redis.call('HGET', SESSIONS, device)
return record and decodeSession(device, record)
end
local function announce(kind, lease, session)
lease.fence = takeFence()
publish(lease.fence, table.concat({ kind, nameOf(lease.id), session.id, encodeLease(lease) }, ' '))
end
local function shown(lease, session)
return table.concat({ lease.id, redis.call('HGET', META, 'pool'), session.id, encodeLease(lease) }, ' ')
end
local function isOver(lease)
return lease.expiresAtMs <= now or (lease.state == 'pending' and lease.pendingUntilMs <= now)
end
local function heldBy(id, tenant, device)
local lease = leaseOf(id)
if lease and not isOver(lease) and lease.device == tenant .. '/' .. device then
return lease
end
return nil
end
local function lifetime(wishMs, longest, shortest, capacity)
local mostMs = tonumber(longest or wishMs)
local leastMs = tonumber(shortest or mostMs)
if leastMs < mostMs then
local held = redis.call('HLEN', LEASES) + (redis.call('HGET', META, 'extraSlots') or 0)
local left = 1 - held / math.max(1, tonumber(capacity))
mostMs = leastMs + (mostMs - leastMs) * math.min(1, math.max(0, left * 2))
end
return math.floor(math.min(wishMs, mostMs))
end
local function closedBy(lease, expiresAtMs)
local drains, plan = unpack(redis.call('HMGET', META, 'drains', 'plan'))
if drains ~= '1' then
return expiresAtMs
end
plan = cjson.decode(plan)
local place = placeOfSlot(plan, lease.slot)
local range = place and closedRange(plan, place)
return range and math.min(expiresAtMs, range.untilMs) or expiresAtMs
end
if quarantined() then
return QUARANTINED
end
local lease = heldBy(ARGV[2], ARGV[3], ARGV[4])
if not lease or lease.state ~= 'active' then
return BAD_BIND
end
local session = sessionOf(lease.device)
local request = 'extend:' .. lease.id .. ':' .. ARGV[1]
if recall(request) then
return { now, shown(lease, session) }
end
local wished = tonumber(ARGV[6]) or 0
local _, has = portsIn(lease.ports)
local doubled
if wished > (has or 0) then
doubled = doubledFor(lease, wished)
if not doubled then
return PORTS_UNAVAILABLE
end
lease.ports = doubled[1]
end
local meta = redis.call('HMGET', META, 'longestLeaseMs', 'shortestLeaseMs', 'capacity')
lease.expiresAtMs = closedBy(lease, now + lifetime(tonumber(ARGV[5]), meta[1], meta[2], meta[3]))
announce('extended', lease, session)
save(lease)
takeMoreSlots(doubled and doubled[2] or {})
redis.call('ZADD', EXPIRIES, whole(lease.expiresAtMs), nameOf(lease.id))
remember(request, 'E')
return { now, shown(lease, session) }`,
  },
  forget: {
    name: 'mooring_forget_e8f4b01796f3',
    keys: 1,
    lua: `#!lua flags=allow-oom
local function readNow()
local time = redis.call('TIME')
return time[1] * 1000 + math.floor(time[2] / 1000)
end
local now = readNow()
local INDEX = unpack(KEYS)
local function whole(number)
return string.format('%.0f', number)
end
local function readNote(value)
return string.match(value, '^([-+?])(%S+) ?(%d*) ?(%d*)$')
end
local function anchorIn(leaseId)
return string.sub(leaseId, 1, -24)
end
for _, lease in ipairs(ARGV) do
local state, pool = readNote(redis.call('HGET', INDEX, lease) or '')
if state and state ~= '-' then
redis.call('HSET', INDEX, lease, '-' .. pool .. ' ' .. whole(now), 'last:' .. pool, anchorIn(lease))
end
end
return 'OK'`,
  },
  free: {
    name: 'mooring_free_191923cab5ce',
    keys: 15,
    lua: `#!lua flags=allow-oom
local BAD_BIND = -6
local WITHDRAWN = -9
local REQUEST_ENDED = -11
local QUARANTINED = -16
local function readNow()
local time = redis.call('TIME')
return time[1] * 1000 + math.floor(time[2] / 1000)
end
local now = readNow()
local META, LEASES, SESSIONS, INDEXES, EXPIRIES, COOLING, FORMER, ANSWERS, ANSWERED, STREAM, HINTS, REPORT, TENANTS, CHANNEL, OLDER =
unpack(KEYS)
local SCHEMA = '2'
local function whole(number)
return string.format('%.0f', number)
end
local schema = redis.call('HGET', META, 'schema')
if schema and schema ~= SCHEMA then
error({ err = 'MOORINGSCHEMA ' .. schema })
end
local MOST_EVENTS = 512
local LEAST_EVENTS = 64
local function takeFence()
local counter = redis.call('HINCRBY', META, 'counter', 1)
return redis.call('HGET', META, 'epoch') .. '-' .. whole(counter)
end
local function publish(fence, event)
local length = math.max(LEAST_EVENTS, math.min(MOST_EVENTS, redis.call('HLEN', LEASES)))
redis.call('XADD', STREAM, 'MAXLEN', '~', length, fence, 'event', event)
redis.call('SPUBLISH', CHANNEL, fence)
end
local LEASE_WORDS = '^' .. string.rep('(%S+) ', 10) .. '(%S+)$'
local SESSION_WORDS = '^' .. string.rep('(%S+) ', 5) .. '(%S+)$'
local ANCHOR_NAME = string.match(META, '{a:(.*)}')
local function nameOf(id)
return string.sub(id, #ANCHOR_NAME + 2)
end
local function encodeLease(lease)
local pending = lease.state == 'pending' and whole(lease.pendingUntilMs) or '-'
return table.concat({
lease.device, lease.slot, lease.address, lease.ports, lease.spis, lease.ikeSpis, lease.remote, pending,
whole(lease.expiresAtMs), lease.fence, whole(lease.bindId),
}, ' ')
end
local function decodeLease(name, record)
local device, slot, address, ports, spis, ikeSpis, remote, pending, expires, fence, bindId =
string.match(record, LEASE_WORDS)
return {
id = ANCHOR_NAME .. '.' .. name,
device = device,
slot = slot,
address = address,
ports = ports,
spis = spis,
ikeSpis = ikeSpis,
remote = remote,
state = pending == '-' and 'active' or 'pending',
pendingUntilMs = tonumber(pending),
expiresAtMs = tonumber(expires),
fence = fence,
bindId = tonumber(bindId),
}
end
local function encodeSession(session)
return table.concat({
session.index, session.id, session.thumbprint, session.salt, session.replaces, table.concat(session.leases, ','),
}, ' ')
end
local function decodeSession(device, record)
local index, id, thumbprint, salt, replaces, named = string.match(record, SESSION_WORDS)
local leases = {}
for name in string.gmatch(named, '[^,]+') do
leases[#leases + 1] = name
end
return {
device = device,
index = index,
id = id,
thumbprint = thumbprint,
salt = salt,
replaces = replaces,
leases = leases,
}
end
local KEEP_MS = 3600000
local KEEP_COUNT = 16384
local BY_TIME = '.0'
local function recall(request)
return redis.call('HGET', ANSWERS, request)
end
local function forgetOldest(count)
local oldest = redis.call('ZPOPMIN', ANSWERED, count)
for at = 1, #oldest, 2 do
redis.call('HDEL', ANSWERS, oldest[at])
end
end
local function remember(request, answer)
redis.call('HSET', ANSWERS, request, answer)
redis.call('ZADD', ANSWERED, whole(now + KEEP_MS), request)
local surplus = redis.call('ZCARD', ANSWERED) - KEEP_COUNT
if surplus > 0 then
forgetOldest(surplus)
redis.call('HDEL', META, 'missed')
end
for _ = 1, 2 do
local first = redis.call('ZRANGE', ANSWERED, 0, 0, 'WITHSCORES')
if first[2] == nil or tonumber(first[2]) > now then
break
end
forgetOldest(1)
end
end
local function placeOfSlot(plan, slot)
slot = tonumber(slot)
for _, segment in ipairs(plan.segments) do
local number = slot - segment.first
if number >= 0 and number < segment.slots then
local ordinal = number % segment.addresses
for at, prefix in ipairs(segment.prefixes) do
if ordinal < prefix.addresses then
return { segment = segment, number = number, prefix = prefix, ordinal = ordinal, tweak = segment.tweak + at }
end
ordinal = ordinal - prefix.addresses
end
end
end
end
local function formerSlots(device)
local slots = {}
for slot in string.gmatch(redis.call('HGET', FORMER, 'd:' .. device) or '', '%d+') do
slots[#slots + 1] = slot
end
return slots
end
local function coolSlot(slot, device)
local coolingMs = tonumber(redis.call('HGET', META, 'coolingMs'))
redis.call('ZADD', COOLING, whole(now + coolingMs), slot)
redis.call('HSET', FORMER, 's:' .. slot, device)
local former = formerSlots(device)
former[#former + 1] = slot
redis.call('HSET', FORMER, 'd:' .. device, table.concat(former, ','))
end
local function portsIn(text)
local first, width = string.match(text, '^(%d+)/(%d+)$')
return tonumber(first), first and 2 ^ tonumber(width)
end
local function slotsOfPorts(plan, slot, first, count)
local place = placeOfSlot(plan, slot)
if not place then
return nil
end
local segment, slots = place.segment, {}
local ordinal = place.number % segment.addresses
for block = first / plan.portBlock, (first + count) / plan.portBlock - 1 do
local row = block - plan.firstPortBlock
local number = row * segment.addresses + ordinal
if row < 0 or number >= segment.slots then
return nil
end
slots[#slots + 1] = whole(segment.first + number)
end
return slots
end
local function slotsIn(plan, lease)
local first, count = portsIn(lease.ports)
local isDoubled = first and count > plan.portBlock
return isDoubled and slotsOfPorts(plan, lease.slot, first, count) or { lease.slot }
end
local function countExtraSlots(more)
if more ~= 0 then
redis.call('HINCRBY', META, 'extraSlots', more)
end
end
local function slotsOf(lease)
if (redis.call('HGET', META, 'extraSlots') or '0') == '0' then
return { lease.slot }
end
return slotsIn(cjson.decode(redis.call('HGET', META, 'plan')), lease)
end
local function coolSlots(slots, device)
for _, slot in ipairs(slots) do
coolSlot(slot, device)
end
countExtraSlots(1 - #slots)
end
local function readServer()
return string.match(redis.call('INFO', 'replication'), 'master_replid:(%x+)')
end
local server = readServer()
local function forgetReport()
redis.call(
'HDEL', META, 'reportEpoch', 'reportRelay', 'reportBoot', 'reportCounter', 'reportUntilMs',
'reportPlan', 'reportAtMs', 'reportIsTold', 'reportAs', 'restoring', 'restMs', 'restTo', 'isInDoubt', 'isRestored'
)
redis.call('UNLINK', REPORT)
end
local function beginQuarantine(ms)
redis.call('HSETNX', META, 'wholeCounter', redis.call('HGET', META, 'counter') or 0)
redis.call('HSET', META, 'server', server, 'quarantineUntilMs', whole(now + ms))
redis.call('HDEL', META, 'isRaised')
forgetReport()
end
local function quarantined()
local of = redis.call('HMGET', META, 'server', 'quarantineUntilMs', 'quarantineMs')
if of[1] and of[1] ~= server then
beginQuarantine(tonumber(of[3]))
return true
end
return of[2] ~= false
end
local function tenantOf(device)
return string.match(device, '^[^/]*')
end
local function allowanceOf(tenant)
local used, allowed, number, epoch =
string.match(redis.call('HGET', TENANTS, tenant) or '0 0 0 0', '^(%d+) (%d+) (%d+) (%d+)$')
local isCurrent = epoch == redis.call('HGET', META, 'epoch')
return {
used = tonumber(used),
allowed = isCurrent and tonumber(allowed) or 0,
number = isCurrent and number or '0',
}
end
local function saveAllowance(tenant, allowance)
local epoch = redis.call('HGET', META, 'epoch')
local words = { whole(allowance.used), whole(allowance.allowed), allowance.number, epoch }
redis.call('HSET', TENANTS, tenant, table.concat(words, ' '))
end
local function countLease(device, more)
if redis.call('HEXISTS', META, 'maxLeasesPerTenant') == 0 then
return
end
local tenant = tenantOf(device)
local allowance = allowanceOf(tenant)
allowance.used = allowance.used + more
if allowance.used > 0 then
saveAllowance(tenant, allowance)
else
redis.call('HDEL', TENANTS, tenant)
end
end
local function leaseOf(id)
local name = nameOf(id)
local record = redis.call('HGET', LEASES, name)
return record and decodeLease(name, record)
end
local function sessionOf(device)
local record = redis.call('HGET', SESSIONS, device)
return record and decodeSession(device, record)
end
local function saveSession(session)
redis.call('HSET', SESSIONS, session.device, encodeSession(session))
end
local function announce(kind, lease, session)
lease.fence = takeFence()
publish(lease.fence, table.concat({ kind, nameOf(lease.id), session.id, encodeLease(lease) }, ' '))
end
local function shown(lease, session)
return table.concat({ lease.id, redis.call('HGET', META, 'pool'), session.id, encodeLease(lease) }, ' ')
end
local function isOver(lease)
return lease.expiresAtMs <= now or (lease.state == 'pending' and lease.pendingUntilMs <= now)
end
local function heldBy(id, tenant, device)
local lease = leaseOf(id)
if lease and not isOver(lease) and lease.device == tenant .. '/' .. device then
return lease
end
return nil
end
local function forgetSession(session)
redis.call('HDEL', SESSIONS, session.device)
redis.call('SETBIT', INDEXES, session.index, 0)
redis.call('HDEL', HINTS, session.id)
end
local function leaveSession(session, lease)
local name = nameOf(lease.id)
local left = {}
for _, other in ipairs(session.leases) do
if other ~= name then
left[#left + 1] = other
end
end
session.leases = left
if #left > 0 then
saveSession(session)
else
forgetSession(session)
end
end
local function endLease(lease, reason)
local session = sessionOf(lease.device)
announce('ended ' .. reason, lease, session)
redis.call('HDEL', LEASES, nameOf(lease.id))
redis.call('ZREM', EXPIRIES, nameOf(lease.id))
countLease(lease.device, -1)
coolSlots(slotsOf(lease), lease.device)
leaveSession(session, lease)
remember(lease.id, 'C' .. (reason == 'withdrawn' and WITHDRAWN or REQUEST_ENDED) .. (reason == 'expired' and BY_TIME or ''))
return shown(lease, session)
end
if quarantined() then
return QUARANTINED
end
local request = 'free:' .. ARGV[3] .. '/' .. ARGV[4] .. ':' .. ARGV[2] .. ':' .. ARGV[1]
local answered = recall(request)
if answered then
return { now, answered }
end
local lease = heldBy(ARGV[2], ARGV[3], ARGV[4])
if not lease then
return BAD_BIND
end
local ended = endLease(lease, 'freed')
remember(request, ended)
return { now, ended }`,
  },
  grant: {
    name: 'mooring_grant_8f061e06e044',
    keys: 15,
    lua: `local UNDECLARED = -1
local NO_OWNER = -4
local EXHAUSTED = -5
local KIND_NOT_OFFERED = -7
local WITHDRAWN = -9
local REQUEST_ENDED = -11
local QUARANTINED = -16
local REMOTE_FAMILY = -15
local INDEX_BEHIND = -18
local ADDRESS_INUSE = -30
local ADDRESS_UNALLOWED = -31
local PORTS_INUSE = -32
local PORTS_UNALLOWED = -33
local SPIS_INUSE = -34
local SPIS_UNAVAILABLE = -35
local function readNow()
local time = redis.call('TIME')
return time[1] * 1000 + math.floor(time[2] / 1000)
end
local now = readNow()
local META, LEASES, SESSIONS, INDEXES, EXPIRIES, COOLING, FORMER, ANSWERS, ANSWERED, STREAM, HINTS, REPORT, TENANTS, CHANNEL, OLDER =
unpack(KEYS)
local SCHEMA = '2'
local function whole(number)
return string.format('%.0f', number)
end
local schema = redis.call('HGET', META, 'schema')
if schema and schema ~= SCHEMA then
error({ err = 'MOORINGSCHEMA ' .. schema })
end
local MOST_EVENTS = 512
local LEAST_EVENTS = 64
local function takeFence()
local counter = redis.call('HINCRBY', META, 'counter', 1)
return redis.call('HGET', META, 'epoch') .. '-' .. whole(counter)
end
local function publish(fence, event)
local length = math.max(LEAST_EVENTS, math.min(MOST_EVENTS, redis.call('HLEN', LEASES)))
redis.call('XADD', STREAM, 'MAXLEN', '~', length, fence, 'event', event)
redis.call('SPUBLISH', CHANNEL, fence)
end
local LEASE_WORDS = '^' .. string.rep('(%S+) ', 10) .. '(%S+)$'
local SESSION_WORDS = '^' .. string.rep('(%S+) ', 5) .. '(%S+)$'
local ANCHOR_NAME = string.match(META, '{a:(.*)}')
local function nameOf(id)
return string.sub(id, #ANCHOR_NAME + 2)
end
local function markOf(name)
return string.sub(name, 1, 11)
end
local function encodeLease(lease)
local pending = lease.state == 'pending' and whole(lease.pendingUntilMs) or '-'
return table.concat({
lease.device, lease.slot, lease.address, lease.ports, lease.spis, lease.ikeSpis, lease.remote, pending,
whole(lease.expiresAtMs), lease.fence, whole(lease.bindId),
}, ' ')
end
local function decodeLease(name, record)
local device, slot, address, ports, spis, ikeSpis, remote, pending, expires, fence, bindId =
string.match(record, LEASE_WORDS)
return {
id = ANCHOR_NAME .. '.' .. name,
device = device,
slot = slot,
address = address,
ports = ports,
spis = spis,
ikeSpis = ikeSpis,
remote = remote,
state = pending == '-' and 'active' or 'pending',
pendingUntilMs = tonumber(pending),
expiresAtMs = tonumber(expires),
fence = fence,
bindId = tonumber(bindId),
}
end
local function encodeSession(session)
return table.concat({
session.index, session.id, session.thumbprint, session.salt, session.replaces, table.concat(session.leases, ','),
}, ' ')
end
local function decodeSession(device, record)
local index, id, thumbprint, salt, replaces, named = string.match(record, SESSION_WORDS)
local leases = {}
for name in string.gmatch(named, '[^,]+') do
leases[#leases + 1] = name
end
return {
device = device,
index = index,
id = id,
thumbprint = thumbprint,
salt = salt,
replaces = replaces,
leases = leases,
}
end
local function shownSession(session)
return session.device .. ' ' .. encodeSession(session)
end
local KEEP_MS = 3600000
local KEEP_COUNT = 16384
local BY_TIME = '.0'
local function recall(request)
return redis.call('HGET', ANSWERS, request)
end
local function forgetOldest(count)
local oldest = redis.call('ZPOPMIN', ANSWERED, count)
for at = 1, #oldest, 2 do
redis.call('HDEL', ANSWERS, oldest[at])
end
end
local function remember(request, answer)
redis.call('HSET', ANSWERS, request, answer)
redis.call('ZADD', ANSWERED, whole(now + KEEP_MS), request)
local surplus = redis.call('ZCARD', ANSWERED) - KEEP_COUNT
if surplus > 0 then
forgetOldest(surplus)
redis.call('HDEL', META, 'missed')
end
for _ = 1, 2 do
local first = redis.call('ZRANGE', ANSWERED, 0, 0, 'WITHSCORES')
if first[2] == nil or tonumber(first[2]) > now then
break
end
forgetOldest(1)
end
end
local function refuse(request, code)
remember(request, 'C' .. code)
return code
end
local WORD = 4294967296
local ROUNDS = 4
local function times(a, b)
local high = math.floor(a / 65536)
local low = a % 65536
return ((high * b) % 65536 * 65536 + low * b) % WORD
end
local function mix(value)
value = bit.bxor(value, bit.rshift(value, 16)) % WORD
value = times(value, 2246822507)
value = bit.bxor(value, bit.rshift(value, 13)) % WORD
value = times(value, 3266489909)
return bit.bxor(value, bit.rshift(value, 16)) % WORD
end
local function walk(value, width, key, tweak, from, to, step)
local leftWidth = math.floor(width / 2)
local leftSize = 2 ^ leftWidth
local rightSize = 2 ^ (width - leftWidth)
local left = math.floor(value / rightSize)
local right = value % rightSize
for round = from, to, step do
local word = (key[(round - 1) % #key + 1] + times(round + tweak * ROUNDS, 2654435769)) % WORD
if round % 2 == 1 then
left = bit.bxor(left, mix((right + word) % WORD) % leftSize) % WORD
else
right = bit.bxor(right, mix((left + word) % WORD) % rightSize) % WORD
end
end
return left * rightSize + right
end
local function permute(value, width, key, tweak)
return walk(value, width, key, tweak, 1, ROUNDS, 1)
end
local function unpermute(value, width, key, tweak)
return walk(value, width, key, tweak, ROUNDS, 1, -1)
end
local IKE_PREFIX_BITS = 16
local IKE_BLOCK = 65536
local IKE_TWEAK = 65536
local function textV6(bytes)
local groups = {}
for at = 1, 16, 2 do
groups[#groups + 1] = bytes[at] * 256 + bytes[at + 1]
end
local bestAt, bestLength, at = 0, 1, 1
while at <= 8 do
local length = 0
while groups[at + length] == 0 do
length = length + 1
end
if length > bestLength then
bestAt, bestLength = at, length
end
at = at + math.max(length, 1)
end
local head, tail = {}, {}
for group = 1, 8 do
if bestAt == 0 or group < bestAt then
head[#head + 1] = string.format('%x', groups[group])
elseif group >= bestAt + bestLength then
tail[#tail + 1] = string.format('%x', groups[group])
end
end
local text = table.concat(head, ':')
return bestAt == 0 and text or text .. '::' .. table.concat(tail, ':')
end
local function addressText(prefix, host)
local bytes = {}
for pair in string.gmatch(prefix.hex, '%x%x') do
bytes[#bytes + 1] = tonumber(pair, 16)
end
local at = #bytes
while host > 0 do
bytes[at] = bytes[at] + host % 256
host = math.floor(host / 256)
at = at - 1
end
return #bytes == 4 and table.concat(bytes, '.') or textV6(bytes)
end
local function isV6(address)
return string.find(address, ':', 1, true) ~= nil
end
local function placeOfSlot(plan, slot)
slot = tonumber(slot)
for _, segment in ipairs(plan.segments) do
local number = slot - segment.first
if number >= 0 and number < segment.slots then
local ordinal = number % segment.addresses
for at, prefix in ipairs(segment.prefixes) do
if ordinal < prefix.addresses then
return { segment = segment, number = number, prefix = prefix, ordinal = ordinal, tweak = segment.tweak + at }
end
ordinal = ordinal - prefix.addresses
end
end
end
end
local function hostOf(plan, place)
return permute(place.ordinal, place.prefix.width, plan.key, place.tweak)
end
local function closedRange(plan, place)
if not place.prefix.closed then
return nil
end
local host = hostOf(plan, place)
for _, range in ipairs(place.prefix.closed) do
if host >= range.from and host < range.from + range.count then
return range
end
end
end
local function isOpen(plan, slot)
local place = placeOfSlot(plan, slot)
return place ~= nil and closedRange(plan, place) == nil
end
local function spisOf(plan, segment, number)
local block = number + plan.reservedSpiBlocks
repeat
block = permute(block, plan.spiWidth, plan.key, segment.tweak)
until block >= plan.reservedSpiBlocks
return block * plan.spiBlock
end
local function numberOfSpi(plan, segment, spi)
local block = math.floor(spi / plan.spiBlock)
if block < plan.reservedSpiBlocks then
return math.huge
end
repeat
block = unpermute(block, plan.spiWidth, plan.key, segment.tweak)
until block >= plan.reservedSpiBlocks
return block - plan.reservedSpiBlocks
end
local function ikeSpisOf(plan, segment, number)
local block = number + 1
repeat
block = permute(block, IKE_PREFIX_BITS, plan.key, segment.tweak + IKE_TWEAK)
until block > 0
return block * IKE_BLOCK
end
local function blockText(first, count)
return whole(first) .. '/' .. whole(math.floor(math.log(count) / math.log(2) + 0.5))
end
local function resourcesOf(plan, slot, kind)
local place = placeOfSlot(plan, slot)
if not place then
return { address = '-', ports = '-', spis = '-', ikeSpis = '-' }
end
local address = addressText(place.prefix, hostOf(plan, place))
if plan.sharing == 'whole' then
return { address = address, ports = '-', spis = '-', ikeSpis = '-' }
end
local segment, number = place.segment, place.number
local block = plan.firstPortBlock + math.floor(number / segment.addresses)
return {
address = address,
ports = blockText(block * plan.portBlock, plan.portBlock),
spis = kind == 'rsipsec' and blockText(spisOf(plan, segment, number), plan.spiBlock) or '-',
ikeSpis = kind == 'rsipsec' and blockText(ikeSpisOf(plan, segment, number), IKE_BLOCK) or '-',
}
end
local ASIDE_MS = 1e15
local LOOK_AHEAD = 16
local LOOKS_BACK = 8
local MOST_LEASES = 4096
local function formerSlots(device)
local slots = {}
for slot in string.gmatch(redis.call('HGET', FORMER, 'd:' .. device) or '', '%d+') do
slots[#slots + 1] = slot
end
return slots
end
local function forgetFormer(device, slot)
local left = {}
for _, other in ipairs(formerSlots(device)) do
if other ~= slot then
left[#left + 1] = other
end
end
if #left > 0 then
redis.call('HSET', FORMER, 'd:' .. device, table.concat(left, ','))
else
redis.call('HDEL', FORMER, 'd:' .. device)
end
end
local function forgetSlot(slot)
local device = redis.call('HGET', FORMER, 's:' .. slot)
if device then
forgetFormer(device, slot)
redis.call('HDEL', FORMER, 's:' .. slot)
end
end
local function isFree(slot, device)
if tonumber(slot) >= tonumber(redis.call('HGET', META, 'frontier')) then
return true
end
local coolMs = redis.call('ZSCORE', COOLING, slot)
return coolMs and (tonumber(coolMs) <= now or redis.call('HGET', FORMER, 's:' .. slot) == device) or false
end
local function coolSlotFor(plan, kind)
if kind == 'rsap-ip' then
local of = redis.call('HMGET', META, 'coolingMs', 'spiCoolingMs')
local rested = now - math.max(0, tonumber(of[2] or of[1]) - tonumber(of[1]))
for _, slot in ipairs(redis.call('ZREVRANGEBYSCORE', COOLING, whole(now), '(' .. whole(rested), 'LIMIT', 0, LOOK_AHEAD)) do
if isOpen(plan, slot) then
return slot
end
end
end
for _ = 1, LOOKS_BACK do
local cool = redis.call('ZRANGEBYSCORE', COOLING, '-inf', whole(now), 'LIMIT', 0, LOOK_AHEAD)
for _, slot in ipairs(cool) do
if isOpen(plan, slot) then
return slot
end
redis.call('ZINCRBY', COOLING, ASIDE_MS, slot)
end
if #cool < LOOK_AHEAD then
return nil
end
end
end
local function mostBlocks(plan)
local most = tonumber(redis.call('HGET', META, 'maxPortBlock') or plan.portBlock)
return plan.sharing == 'whole' and 1 or math.max(1, most / plan.portBlock)
end
local function firstOfBlocks(plan, slot, blocks)
local place = placeOfSlot(plan, slot)
if not place then
return slot
end
local segment = place.segment
local row = math.floor(place.number / segment.addresses)
local ahead = -(plan.firstPortBlock + row) % blocks
if row == 0 or ahead == 0 then
return slot
end
return segment.first + math.min(segment.slots, (row + ahead) * segment.addresses)
end
local function freshSlot(plan, blocks)
local slot = tonumber(redis.call('HGET', META, 'frontier'))
for _ = 1, LOOK_AHEAD do
slot = firstOfBlocks(plan, slot, blocks)
if slot >= plan.slots then
return nil
elseif isOpen(plan, slot) then
return whole(slot)
end
slot = slot + 1
end
end
local function pickSlot(plan, device, kind)
if plan.slots > MOST_LEASES and redis.call('HLEN', LEASES) >= MOST_LEASES then
return nil
end
local former = formerSlots(device)
for at = #former, 1, -1 do
if isOpen(plan, former[at]) then
return former[at]
end
end
return freshSlot(plan, mostBlocks(plan)) or freshSlot(plan, 1) or coolSlotFor(plan, kind)
end
local function takeSlot(slot)
local number = tonumber(slot)
local frontier = tonumber(redis.call('HGET', META, 'frontier'))
if number < frontier then
redis.call('ZREM', COOLING, slot)
forgetSlot(slot)
return
end
for skipped = frontier, number - 1 do
redis.call('ZADD', COOLING, 0, whole(skipped))
end
redis.call('HSET', META, 'frontier', whole(number + 1))
end
local function coolSlot(slot, device)
local coolingMs = tonumber(redis.call('HGET', META, 'coolingMs'))
redis.call('ZADD', COOLING, whole(now + coolingMs), slot)
redis.call('HSET', FORMER, 's:' .. slot, device)
local former = formerSlots(device)
former[#former + 1] = slot
redis.call('HSET', FORMER, 'd:' .. device, table.concat(former, ','))
end
local function freeSlots()
local of = redis.call('HMGET', META, 'capacity', 'frontier', 'slots')
local unleased = tonumber(of[3] or of[1]) - tonumber(of[2]) + redis.call('ZCOUNT', COOLING, '-inf', whole(now))
return math.min(tonumber(of[1]), unleased)
end
local function portsIn(text)
local first, width = string.match(text, '^(%d+)/(%d+)$')
return tonumber(first), first and 2 ^ tonumber(width)
end
local function slotsOfPorts(plan, slot, first, count)
local place = placeOfSlot(plan, slot)
if not place then
return nil
end
local segment, slots = place.segment, {}
local ordinal = place.number % segment.addresses
for block = first / plan.portBlock, (first + count) / plan.portBlock - 1 do
local row = block - plan.firstPortBlock
local number = row * segment.addresses + ordinal
if row < 0 or number >= segment.slots then
return nil
end
slots[#slots + 1] = whole(segment.first + number)
end
return slots
end
local function slotsIn(plan, lease)
local first, count = portsIn(lease.ports)
local isDoubled = first and count > plan.portBlock
return isDoubled and slotsOfPorts(plan, lease.slot, first, count) or { lease.slot }
end
local function countExtraSlots(more)
if more ~= 0 then
redis.call('HINCRBY', META, 'extraSlots', more)
end
end
local function slotsOf(lease)
if (redis.call('HGET', META, 'extraSlots') or '0') == '0' then
return { lease.slot }
end
return slotsIn(cjson.decode(redis.call('HGET', META, 'plan')), lease)
end
local function coolSlots(slots, device)
for _, slot in ipairs(slots) do
coolSlot(slot, device)
end
countExtraSlots(1 - #slots)
end
local function readServer()
return string.match(redis.call('INFO', 'replication'), 'master_replid:(%x+)')
end
local server = readServer()
local function forgetReport()
redis.call(
'HDEL', META, 'reportEpoch', 'reportRelay', 'reportBoot', 'reportCounter', 'reportUntilMs',
'reportPlan', 'reportAtMs', 'reportIsTold', 'reportAs', 'restoring', 'restMs', 'restTo', 'isInDoubt', 'isRestored'
)
redis.call('UNLINK', REPORT)
end
local function beginQuarantine(ms)
redis.call('HSETNX', META, 'wholeCounter', redis.call('HGET', META, 'counter') or 0)
redis.call('HSET', META, 'server', server, 'quarantineUntilMs', whole(now + ms))
redis.call('HDEL', META, 'isRaised')
forgetReport()
end
local function quarantined()
local of = redis.call('HMGET', META, 'server', 'quarantineUntilMs', 'quarantineMs')
if of[1] and of[1] ~= server then
beginQuarantine(tonumber(of[3]))
return true
end
return of[2] ~= false
end
local function tenantOf(device)
return string.match(device, '^[^/]*')
end
local function nextNumber()
return whole(math.max(tonumber(redis.call('HGET', META, 'allowanceNumber') or 0) + 1, now))
end
local function takeNumber()
local number = nextNumber()
redis.call('HSET', META, 'allowanceNumber', number)
return number
end
local function allowanceOf(tenant)
local used, allowed, number, epoch =
string.match(redis.call('HGET', TENANTS, tenant) or '0 0 0 0', '^(%d+) (%d+) (%d+) (%d+)$')
local isCurrent = epoch == redis.call('HGET', META, 'epoch')
return {
used = tonumber(used),
allowed = isCurrent and tonumber(allowed) or 0,
number = isCurrent and number or '0',
}
end
local function saveAllowance(tenant, allowance)
local epoch = redis.call('HGET', META, 'epoch')
local words = { whole(allowance.used), whole(allowance.allowed), allowance.number, epoch }
redis.call('HSET', TENANTS, tenant, table.concat(words, ' '))
end
local function countLease(device, more)
if redis.call('HEXISTS', META, 'maxLeasesPerTenant') == 0 then
return
end
local tenant = tenantOf(device)
local allowance = allowanceOf(tenant)
allowance.used = allowance.used + more
if allowance.used > 0 then
saveAllowance(tenant, allowance)
else
redis.call('HDEL', TENANTS, tenant)
end
end
local function leaseOf(id)
local name = nameOf(id)
local record = redis.call('HGET', LEASES, name)
return record and decodeLease(name, record)
end
local function save(lease)
redis.call('HSET', LEASES, nameOf(lease.id), encodeLease(lease))
end
local function sessionOf(device)
local record = redis.call('HGET', SESSIONS, device)
return record and decodeSession(device, record)
end
local function saveSession(session)
redis.call('HSET', SESSIONS, session.device, encodeSession(session))
end
local function announce(kind, lease, session)
lease.fence = takeFence()
publish(lease.fence, table.concat({ kind, nameOf(lease.id), session.id, encodeLease(lease) }, ' '))
end
local function shown(lease, session)
return table.concat({ lease.id, redis.call('HGET', META, 'pool'), session.id, encodeLease(lease) }, ' ')
end
local function isOver(lease)
return lease.expiresAtMs <= now or (lease.state == 'pending' and lease.pendingUntilMs <= now)
end
local function forgetSession(session)
redis.call('HDEL', SESSIONS, session.device)
redis.call('SETBIT', INDEXES, session.index, 0)
redis.call('HDEL', HINTS, session.id)
end
local function leaveSession(session, lease)
local name = nameOf(lease.id)
local left = {}
for _, other in ipairs(session.leases) do
if other ~= name then
left[#left + 1] = other
end
end
session.leases = left
if #left > 0 then
saveSession(session)
else
forgetSession(session)
end
end
local function endLease(lease, reason)
local session = sessionOf(lease.device)
announce('ended ' .. reason, lease, session)
redis.call('HDEL', LEASES, nameOf(lease.id))
redis.call('ZREM', EXPIRIES, nameOf(lease.id))
countLease(lease.device, -1)
coolSlots(slotsOf(lease), lease.device)
leaveSession(session, lease)
remember(lease.id, 'C' .. (reason == 'withdrawn' and WITHDRAWN or REQUEST_ENDED) .. (reason == 'expired' and BY_TIME or ''))
return shown(lease, session)
end
local MOST_INDEXES = 262143
local function takeIndex()
repeat
local index = whole((redis.call('HINCRBY', META, 'nextIndex', 1) - 1) % MOST_INDEXES + 1)
if redis.call('SETBIT', INDEXES, index, 1) == 0 then
return index
end
until false
end
local function replaceSession(old, id, thumbprint, salt)
local session = {
device = old.device,
index = takeIndex(),
id = id,
thumbprint = thumbprint,
salt = salt,
replaces = old.id,
leases = old.leases,
}
local fence = takeFence()
publish(fence, 'session ' .. session.device .. ' ' .. encodeSession(session))
for _, name in ipairs(old.leases) do
local lease = decodeLease(name, redis.call('HGET', LEASES, name))
lease.fence = fence
save(lease)
end
forgetSession(old)
saveSession(session)
return session
end
local LOOKS = 1024
local LOW_DIGITS = 12
local function lowOf(hex)
return tonumber(string.sub(hex, -LOW_DIGITS), 16)
end
local function ordinalOf(plan, segment, hex)
local before = 0
for at, prefix in ipairs(segment.prefixes) do
if #prefix.hex == #hex and string.sub(prefix.hex, 1, -LOW_DIGITS - 1) == string.sub(hex, 1, -LOW_DIGITS - 1) then
local host = lowOf(hex) - lowOf(prefix.hex)
if host >= 0 and host < 2 ^ prefix.width then
local ordinal = unpermute(host, prefix.width, plan.key, segment.tweak + at)
if ordinal < prefix.addresses then
return before + ordinal
end
end
end
before = before + prefix.addresses
end
end
local function fitting(plan, segment, wish)
local ordinal = wish.address and ordinalOf(plan, segment, wish.address)
local row = wish.port and math.floor(wish.port / plan.portBlock) - plan.firstPortBlock
local at, step, last = 0, 1, segment.slots - 1
if wish.address and not ordinal or row and row < 0 then
return function() end
end
if wish.spi then
at = numberOfSpi(plan, segment, wish.spi)
last = at
elseif row then
at = row * segment.addresses + (ordinal or 0)
last = ordinal and at or at + segment.addresses - 1
elseif ordinal then
at, step = ordinal, segment.addresses
end
return function()
while at <= last and at < segment.slots do
local number = at
at = at + step
local fits = (not ordinal or number % segment.addresses == ordinal)
and (not row or math.floor(number / segment.addresses) == row)
if fits and isOpen(plan, segment.first + number) then
return whole(segment.first + number)
end
end
end
end
local function slotWished(plan, device, wish)
local looks, isThere = 0, false
for _, segment in ipairs(plan.segments) do
for slot in fitting(plan, segment, wish) do
isThere = true
looks = looks + 1
if isFree(slot, device) then
return slot
elseif looks >= LOOKS then
break
end
end
end
if isThere then
return nil, wish.spi and SPIS_INUSE or wish.port and PORTS_INUSE or ADDRESS_INUSE
end
return nil, wish.spi and SPIS_UNAVAILABLE or wish.port and PORTS_UNALLOWED or ADDRESS_UNALLOWED
end
local function lifetime(wishMs, longest, shortest, capacity)
local mostMs = tonumber(longest or wishMs)
local leastMs = tonumber(shortest or mostMs)
if leastMs < mostMs then
local held = redis.call('HLEN', LEASES) + (redis.call('HGET', META, 'extraSlots') or 0)
local left = 1 - held / math.max(1, tonumber(capacity))
mostMs = leastMs + (mostMs - leastMs) * math.min(1, math.max(0, left * 2))
end
return math.floor(math.min(wishMs, mostMs))
end
local PENDING_MS = 10000
local leaseId, tenant, deviceId, thumbprint, kind = unpack(ARGV, 2, 6)
local bindId = tonumber(ARGV[8])
local device = tenant .. '/' .. deviceId
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
local index = recall('index:' .. device)
if index and index ~= ARGV[1] then
return refuse(leaseId, INDEX_BEHIND)
end
local meta = redis.call(
'HMGET', META, 'plan', 'capacity', 'owner', 'untilMs', 'longestLeaseMs', 'shortestLeaseMs', 'pool',
'maxLeasesPerTenant'
)
if not meta[1] then
return UNDECLARED
end
if meta[7] ~= ARGV[12] then
return refuse(leaseId, UNDECLARED)
end
if not meta[3] or tonumber(meta[4]) <= now then
return refuse(leaseId, NO_OWNER)
end
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
local isCounted = meta[8] ~= false
local allowance = isCounted and allowanceOf(tenant)
if isCounted and allowance.used >= allowance.allowed then
if allowance.number == '0' then
allowance.number = takeNumber()
saveAllowance(tenant, allowance)
end
return { now, '', allowance.used, allowance.number, tonumber(meta[8]) }
end
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
return { now, shown(lease, session), shownSession(session), replaced, freeSlots() }`,
  },
  held_by: {
    name: 'mooring_held_by_e6036c658753',
    keys: 1,
    lua: `local INDEX = unpack(KEYS)
local function readNote(value)
return string.match(value, '^([-+?])(%S+) ?(%d*) ?(%d*)$')
end
local function leaseNotes()
local fields = redis.call('HGETALL', INDEX)
local at = -1
return function()
repeat
at = at + 2
until not fields[at] or string.find(fields[at], '.', 1, true)
if fields[at] then
return fields[at], readNote(fields[at + 1])
end
end
end
local held, intended = {}, {}
for lease, state in leaseNotes() do
if state == '+' then
held[#held + 1] = lease
elseif state == '?' then
intended[#intended + 1] = lease
end
end
return { held, intended }`,
  },
  held_on: {
    name: 'mooring_held_on_d0f1820d6d5e',
    keys: 15,
    lua: `local UNDECLARED = -1
local QUARANTINED = -16
local function readNow()
local time = redis.call('TIME')
return time[1] * 1000 + math.floor(time[2] / 1000)
end
local now = readNow()
local META, LEASES, SESSIONS, INDEXES, EXPIRIES, COOLING, FORMER, ANSWERS, ANSWERED, STREAM, HINTS, REPORT, TENANTS, CHANNEL, OLDER =
unpack(KEYS)
local SCHEMA = '2'
local function whole(number)
return string.format('%.0f', number)
end
local schema = redis.call('HGET', META, 'schema')
if schema and schema ~= SCHEMA then
error({ err = 'MOORINGSCHEMA ' .. schema })
end
local LEASE_WORDS = '^' .. string.rep('(%S+) ', 10) .. '(%S+)$'
local SESSION_WORDS = '^' .. string.rep('(%S+) ', 5) .. '(%S+)$'
local ANCHOR_NAME = string.match(META, '{a:(.*)}')
local function encodeLease(lease)
local pending = lease.state == 'pending' and whole(lease.pendingUntilMs) or '-'
return table.concat({
lease.device, lease.slot, lease.address, lease.ports, lease.spis, lease.ikeSpis, lease.remote, pending,
whole(lease.expiresAtMs), lease.fence, whole(lease.bindId),
}, ' ')
end
local function decodeLease(name, record)
local device, slot, address, ports, spis, ikeSpis, remote, pending, expires, fence, bindId =
string.match(record, LEASE_WORDS)
return {
id = ANCHOR_NAME .. '.' .. name,
device = device,
slot = slot,
address = address,
ports = ports,
spis = spis,
ikeSpis = ikeSpis,
remote = remote,
state = pending == '-' and 'active' or 'pending',
pendingUntilMs = tonumber(pending),
expiresAtMs = tonumber(expires),
fence = fence,
bindId = tonumber(bindId),
}
end
local function decodeSession(device, record)
local index, id, thumbprint, salt, replaces, named = string.match(record, SESSION_WORDS)
local leases = {}
for name in string.gmatch(named, '[^,]+') do
leases[#leases + 1] = name
end
return {
device = device,
index = index,
id = id,
thumbprint = thumbprint,
salt = salt,
replaces = replaces,
leases = leases,
}
end
local KEEP_MS = 3600000
local KEEP_COUNT = 16384
local function forgetOldest(count)
local oldest = redis.call('ZPOPMIN', ANSWERED, count)
for at = 1, #oldest, 2 do
redis.call('HDEL', ANSWERS, oldest[at])
end
end
local function remember(request, answer)
redis.call('HSET', ANSWERS, request, answer)
redis.call('ZADD', ANSWERED, whole(now + KEEP_MS), request)
local surplus = redis.call('ZCARD', ANSWERED) - KEEP_COUNT
if surplus > 0 then
forgetOldest(surplus)
redis.call('HDEL', META, 'missed')
end
for _ = 1, 2 do
local first = redis.call('ZRANGE', ANSWERED, 0, 0, 'WITHSCORES')
if first[2] == nil or tonumber(first[2]) > now then
break
end
forgetOldest(1)
end
end
local function readServer()
return string.match(redis.call('INFO', 'replication'), 'master_replid:(%x+)')
end
local server = readServer()
local function forgetReport()
redis.call(
'HDEL', META, 'reportEpoch', 'reportRelay', 'reportBoot', 'reportCounter', 'reportUntilMs',
'reportPlan', 'reportAtMs', 'reportIsTold', 'reportAs', 'restoring', 'restMs', 'restTo', 'isInDoubt', 'isRestored'
)
redis.call('UNLINK', REPORT)
end
local function beginQuarantine(ms)
redis.call('HSETNX', META, 'wholeCounter', redis.call('HGET', META, 'counter') or 0)
redis.call('HSET', META, 'server', server, 'quarantineUntilMs', whole(now + ms))
redis.call('HDEL', META, 'isRaised')
forgetReport()
end
local function quarantined()
local of = redis.call('HMGET', META, 'server', 'quarantineUntilMs', 'quarantineMs')
if of[1] and of[1] ~= server then
beginQuarantine(tonumber(of[3]))
return true
end
return of[2] ~= false
end
local function quarantineIsOver()
return tonumber(redis.call('HGET', META, 'quarantineUntilMs')) <= now
end
local function sessionOf(device)
local record = redis.call('HGET', SESSIONS, device)
return record and decodeSession(device, record)
end
local function shown(lease, session)
return table.concat({ lease.id, redis.call('HGET', META, 'pool'), session.id, encodeLease(lease) }, ' ')
end
local function isOver(lease)
return lease.expiresAtMs <= now or (lease.state == 'pending' and lease.pendingUntilMs <= now)
end
local device = ARGV[1] .. '/' .. ARGV[2]
if quarantined() and not (ARGV[3] and quarantineIsOver() and redis.call('HEXISTS', META, 'reportRelay') == 0) then
return QUARANTINED
end
if ARGV[3] then
if redis.call('HEXISTS', META, 'plan') == 0 then
return UNDECLARED
end
remember('index:' .. device, ARGV[3])
end
local answer = { now }
local session = sessionOf(device)
for _, name in ipairs(session and session.leases or {}) do
local lease = decodeLease(name, redis.call('HGET', LEASES, name))
if not isOver(lease) then
answer[#answer + 1] = shown(lease, session)
end
end
return answer`,
  },
  hints: {
    name: 'mooring_hints_39ed28ed4507',
    keys: 15,
    lua: `local META, LEASES, SESSIONS, INDEXES, EXPIRIES, COOLING, FORMER, ANSWERS, ANSWERED, STREAM, HINTS, REPORT, TENANTS, CHANNEL, OLDER =
unpack(KEYS)
local SCHEMA = '2'
local schema = redis.call('HGET', META, 'schema')
if schema and schema ~= SCHEMA then
error({ err = 'MOORINGSCHEMA ' .. schema })
end
return redis.call('HMGET', HINTS, unpack(ARGV))`,
  },
  intend: {
    name: 'mooring_intend_6f4b47d9660a',
    keys: 1,
    lua: `local UNDECLARED = -1
local QUOTA = -13
local function readNow()
local time = redis.call('TIME')
return time[1] * 1000 + math.floor(time[2] / 1000)
end
local now = readNow()
local function readServer()
return string.match(redis.call('INFO', 'replication'), 'master_replid:(%x+)')
end
local server = readServer()
local INDEX = unpack(KEYS)
local INDEX_NAME = server .. '/2'
local function whole(number)
return string.format('%.0f', number)
end
local function readNote(value)
return string.match(value, '^([-+?])(%S+) ?(%d*) ?(%d*)$')
end
local function leaseNotes()
local fields = redis.call('HGETALL', INDEX)
local at = -1
return function()
repeat
at = at + 2
until not fields[at] or string.find(fields[at], '.', 1, true)
if fields[at] then
return fields[at], readNote(fields[at + 1])
end
end
end
local function anchorIn(leaseId)
return string.sub(leaseId, 1, -24)
end
local KEEP_MS = 86400000
local KEEP_ENDED_MS = 3600000
local KEEP_COUNT = 128
local OPEN_MS = 60000
local WEIGHT = { ['-'] = 1, ['?'] = 2, ['+'] = 3 }
local mark, pool, failed = ARGV[1], ARGV[2], ARGV[7]
local bound, former, isWholeIn =
unpack(redis.call('HMGET', INDEX, 'bindId', 'last:' .. pool, 'whole:' .. pool))
local isTrusted = string.find(ARGV[8], '|' .. INDEX_NAME .. '|', 1, true)
if not isTrusted and isWholeIn ~= INDEX_NAME then
return { '', 0, INDEX_NAME, 0 }
end
if isTrusted and isWholeIn then
redis.call('HDEL', INDEX, 'whole:' .. pool)
end
local answer, isMoved
local others, count = {}, 0
local spent, oldest, oldestMs = 0, nil, math.huge
for lease, state, of, since, bindId in leaseNotes() do
local sinceMs = tonumber(since) or now
local isOpen = state == '?' and sinceMs + OPEN_MS > now
local request = string.sub(lease, -22, -12)
local isOf = request == mark
if isOf and string.sub(lease, -11) == failed then
redis.call('HDEL', INDEX, lease)
isMoved = state == '+' or isOpen
elseif isOf and (not answer or WEIGHT[state] > answer.weight) then
answer = { lease, tonumber(bindId) or 0, INDEX_NAME, isOpen and 1 or 0, weight = WEIGHT[state] }
elseif not isOf and of == pool and (state == '+' or isOpen) and not others[request] then
others[request] = true
count = count + 1
end
if state == '+' then
former = of == pool and anchorIn(lease) or former
elseif not isOf and not isOpen then
if sinceMs + (state == '-' and KEEP_ENDED_MS or KEEP_MS) < now then
redis.call('HDEL', INDEX, lease)
else
spent = spent + 1
if sinceMs < oldestMs then
oldest, oldestMs = lease, sinceMs
end
end
end
end
if spent > KEEP_COUNT then
redis.call('HDEL', INDEX, oldest)
end
if answer then
return answer
end
local anchor = ARGV[4] == '1' and former or ARGV[3]
if anchor == '' then
return UNDECLARED
end
if not isMoved and count >= tonumber(ARGV[6]) then
return QUOTA
end
local bindId = whole(tonumber(bound or 0) % 4294967295 + 1)
local lease = anchor .. '.' .. mark .. ARGV[5]
redis.call('HSET', INDEX, lease, table.concat({ '?' .. pool, whole(now), bindId }, ' '), 'bindId', bindId)
return { lease, tonumber(bindId), INDEX_NAME, 1 }`,
  },
  layout: {
    name: 'mooring_layout_f73f87d4e7a8',
    keys: 15,
    lua: `local function readNow()
local time = redis.call('TIME')
return time[1] * 1000 + math.floor(time[2] / 1000)
end
local now = readNow()
local META, LEASES, SESSIONS, INDEXES, EXPIRIES, COOLING, FORMER, ANSWERS, ANSWERED, STREAM, HINTS, REPORT, TENANTS, CHANNEL, OLDER =
unpack(KEYS)
local SCHEMA = '2'
local schema = redis.call('HGET', META, 'schema')
if schema and schema ~= SCHEMA then
error({ err = 'MOORINGSCHEMA ' .. schema })
end
return { now, redis.call('HGET', META, 'plan') or '' }`,
  },
  occupancy: {
    name: 'mooring_occupancy_d6ccd71632f1',
    keys: 15,
    lua: `local UNDECLARED = -1
local function readNow()
local time = redis.call('TIME')
return time[1] * 1000 + math.floor(time[2] / 1000)
end
local now = readNow()
local META, LEASES, SESSIONS, INDEXES, EXPIRIES, COOLING, FORMER, ANSWERS, ANSWERED, STREAM, HINTS, REPORT, TENANTS, CHANNEL, OLDER =
unpack(KEYS)
local SCHEMA = '2'
local function whole(number)
return string.format('%.0f', number)
end
local schema = redis.call('HGET', META, 'schema')
if schema and schema ~= SCHEMA then
error({ err = 'MOORINGSCHEMA ' .. schema })
end
local function freeSlots()
local of = redis.call('HMGET', META, 'capacity', 'frontier', 'slots')
local unleased = tonumber(of[3] or of[1]) - tonumber(of[2]) + redis.call('ZCOUNT', COOLING, '-inf', whole(now))
return math.min(tonumber(of[1]), unleased)
end
if redis.call('HEXISTS', META, 'plan') == 0 then
return UNDECLARED
end
return { now, redis.call('HLEN', LEASES), freeSlots() }`,
  },
  put_hint: {
    name: 'mooring_put_hint_76a13dc01a41',
    keys: 15,
    lua: `local STALE_EPOCH = -3
local META, LEASES, SESSIONS, INDEXES, EXPIRIES, COOLING, FORMER, ANSWERS, ANSWERED, STREAM, HINTS, REPORT, TENANTS, CHANNEL, OLDER =
unpack(KEYS)
local SCHEMA = '2'
local schema = redis.call('HGET', META, 'schema')
if schema and schema ~= SCHEMA then
error({ err = 'MOORINGSCHEMA ' .. schema })
end
local SESSION_WORDS = '^' .. string.rep('(%S+) ', 5) .. '(%S+)$'
local function decodeSession(device, record)
local index, id, thumbprint, salt, replaces, named = string.match(record, SESSION_WORDS)
local leases = {}
for name in string.gmatch(named, '[^,]+') do
leases[#leases + 1] = name
end
return {
device = device,
index = index,
id = id,
thumbprint = thumbprint,
salt = salt,
replaces = replaces,
leases = leases,
}
end
local function sessionOf(device)
local record = redis.call('HGET', SESSIONS, device)
return record and decodeSession(device, record)
end
if redis.call('HGET', META, 'epoch') ~= ARGV[1] then
return STALE_EPOCH
end
local session = sessionOf(ARGV[3])
if not session or session.id ~= ARGV[2] then
return 0
end
local epoch, boot, generation = string.match(redis.call('HGET', HINTS, ARGV[2]) or '', '^(%S+) (%S+) (%S+) ')
if epoch == ARGV[1] and boot == ARGV[4] and tonumber(generation) >= tonumber(ARGV[5]) then
return 0
end
redis.call('HSET', HINTS, ARGV[2], table.concat({ ARGV[1], unpack(ARGV, 4, 7) }, ' '))
return 1`,
  },
  read_events: {
    name: 'mooring_read_events_df64255b84ef',
    keys: 15,
    lua: `local UNDECLARED = -1
local QUARANTINED = -16
local function readNow()
local time = redis.call('TIME')
return time[1] * 1000 + math.floor(time[2] / 1000)
end
local now = readNow()
local META, LEASES, SESSIONS, INDEXES, EXPIRIES, COOLING, FORMER, ANSWERS, ANSWERED, STREAM, HINTS, REPORT, TENANTS, CHANNEL, OLDER =
unpack(KEYS)
local SCHEMA = '2'
local function whole(number)
return string.format('%.0f', number)
end
local schema = redis.call('HGET', META, 'schema')
if schema and schema ~= SCHEMA then
error({ err = 'MOORINGSCHEMA ' .. schema })
end
local function readServer()
return string.match(redis.call('INFO', 'replication'), 'master_replid:(%x+)')
end
local server = readServer()
local function forgetReport()
redis.call(
'HDEL', META, 'reportEpoch', 'reportRelay', 'reportBoot', 'reportCounter', 'reportUntilMs',
'reportPlan', 'reportAtMs', 'reportIsTold', 'reportAs', 'restoring', 'restMs', 'restTo', 'isInDoubt', 'isRestored'
)
redis.call('UNLINK', REPORT)
end
local function beginQuarantine(ms)
redis.call('HSETNX', META, 'wholeCounter', redis.call('HGET', META, 'counter') or 0)
redis.call('HSET', META, 'server', server, 'quarantineUntilMs', whole(now + ms))
redis.call('HDEL', META, 'isRaised')
forgetReport()
end
local function quarantined()
local of = redis.call('HMGET', META, 'server', 'quarantineUntilMs', 'quarantineMs')
if of[1] and of[1] ~= server then
beginQuarantine(tonumber(of[3]))
return true
end
return of[2] ~= false
end
if quarantined() then
return QUARANTINED
end
local counter = redis.call('HGET', META, 'counter')
if not counter then
return UNDECLARED
end
local entries = {}
for _, entry in ipairs(redis.call('XRANGE', STREAM, '(' .. ARGV[1], '+', 'COUNT', ARGV[2])) do
entries[#entries + 1] = { entry[1], entry[2][2] }
end
return { now, counter, redis.call('HGET', META, 'pool') or '', entries }`,
  },
  register: {
    name: 'mooring_register_445cec55bf39',
    keys: 1,
    lua: `local function readNow()
local time = redis.call('TIME')
return time[1] * 1000 + math.floor(time[2] / 1000)
end
local now = readNow()
local INDEX = unpack(KEYS)
local function whole(number)
return string.format('%.0f', number)
end
local client, untilMs = string.match(redis.call('HGET', INDEX, 'client') or '', '^(%d+) (%d+)$')
local boundMs = tonumber(ARGV[3])
if client and (tonumber(untilMs) > now or boundMs > 0) then
return { tonumber(client), math.max(tonumber(untilMs) - now, boundMs), 0 }
end
if ARGV[1] == '0' then
return { 0, 0, 0 }
end
local leftMs = math.max(tonumber(ARGV[2]), boundMs)
redis.call('HSET', INDEX, 'client', ARGV[1] .. ' ' .. whole(now + leftMs))
return { tonumber(ARGV[1]), leftMs, 1 }`,
  },
  reindex: {
    name: 'mooring_reindex_919b04e5a068',
    keys: 1,
    lua: `local INDEX_BEHIND = -18
local function readServer()
return string.match(redis.call('INFO', 'replication'), 'master_replid:(%x+)')
end
local server = readServer()
local INDEX = unpack(KEYS)
local INDEX_NAME = server .. '/2'
if ARGV[3] ~= '' and ARGV[3] ~= INDEX_NAME then
return INDEX_BEHIND
end
local form = redis.call('TYPE', INDEX).ok
if form ~= 'hash' and form ~= 'none' then
redis.call('DEL', INDEX)
end
for at = 4, #ARGV do
redis.call('HSET', INDEX, ARGV[at], '+' .. ARGV[1])
end
if tonumber(redis.call('HGET', INDEX, 'bindId') or 0) < tonumber(ARGV[2]) then
redis.call('HSET', INDEX, 'bindId', ARGV[2])
end
if ARGV[3] ~= '' then
redis.call('HSET', INDEX, 'whole:' .. ARGV[1], INDEX_NAME)
end
return 'OK'`,
  },
  release: {
    name: 'mooring_release_7f8e8d8cde33',
    keys: 15,
    lua: `#!lua flags=allow-oom
local STALE_EPOCH = -3
local QUARANTINED = -16
local function readNow()
local time = redis.call('TIME')
return time[1] * 1000 + math.floor(time[2] / 1000)
end
local now = readNow()
local META, LEASES, SESSIONS, INDEXES, EXPIRIES, COOLING, FORMER, ANSWERS, ANSWERED, STREAM, HINTS, REPORT, TENANTS, CHANNEL, OLDER =
unpack(KEYS)
local SCHEMA = '2'
local function whole(number)
return string.format('%.0f', number)
end
local schema = redis.call('HGET', META, 'schema')
if schema and schema ~= SCHEMA then
error({ err = 'MOORINGSCHEMA ' .. schema })
end
local function readServer()
return string.match(redis.call('INFO', 'replication'), 'master_replid:(%x+)')
end
local server = readServer()
local function forgetReport()
redis.call(
'HDEL', META, 'reportEpoch', 'reportRelay', 'reportBoot', 'reportCounter', 'reportUntilMs',
'reportPlan', 'reportAtMs', 'reportIsTold', 'reportAs', 'restoring', 'restMs', 'restTo', 'isInDoubt', 'isRestored'
)
redis.call('UNLINK', REPORT)
end
local function beginQuarantine(ms)
redis.call('HSETNX', META, 'wholeCounter', redis.call('HGET', META, 'counter') or 0)
redis.call('HSET', META, 'server', server, 'quarantineUntilMs', whole(now + ms))
redis.call('HDEL', META, 'isRaised')
forgetReport()
end
local function quarantined()
local of = redis.call('HMGET', META, 'server', 'quarantineUntilMs', 'quarantineMs')
if of[1] and of[1] ~= server then
beginQuarantine(tonumber(of[3]))
return true
end
return of[2] ~= false
end
local function owner()
local of = redis.call('HMGET', META, 'owner', 'boot', 'epoch', 'untilMs', 'home', 'standby', 'standbyBoot')
return {
relay = of[1],
boot = of[2],
epoch = of[3],
untilMs = tonumber(of[4] or 0),
home = of[5],
standby = of[6],
standbyBoot = of[7],
}
end
if quarantined() then
return QUARANTINED
end
local current = owner()
if not current.relay and current.epoch == ARGV[2] then
return 'OK'
end
if current.relay ~= ARGV[1] or current.epoch ~= ARGV[2] then
return STALE_EPOCH
end
redis.call('HDEL', META, 'owner', 'boot', 'untilMs', 'standby', 'standbyBoot')
return 'OK'`,
  },
  remove: {
    name: 'mooring_remove_5dd75004ed07',
    keys: 15,
    lua: `#!lua flags=allow-oom
local LEASES_WOULD_BE_ORPHANED = -8
local QUARANTINED = -16
local function readNow()
local time = redis.call('TIME')
return time[1] * 1000 + math.floor(time[2] / 1000)
end
local now = readNow()
local META, LEASES, SESSIONS, INDEXES, EXPIRIES, COOLING, FORMER, ANSWERS, ANSWERED, STREAM, HINTS, REPORT, TENANTS, CHANNEL, OLDER =
unpack(KEYS)
local SCHEMA = '2'
local function whole(number)
return string.format('%.0f', number)
end
local schema = redis.call('HGET', META, 'schema')
if schema and schema ~= SCHEMA then
error({ err = 'MOORINGSCHEMA ' .. schema })
end
local function readServer()
return string.match(redis.call('INFO', 'replication'), 'master_replid:(%x+)')
end
local server = readServer()
local function forgetReport()
redis.call(
'HDEL', META, 'reportEpoch', 'reportRelay', 'reportBoot', 'reportCounter', 'reportUntilMs',
'reportPlan', 'reportAtMs', 'reportIsTold', 'reportAs', 'restoring', 'restMs', 'restTo', 'isInDoubt', 'isRestored'
)
redis.call('UNLINK', REPORT)
end
local function beginQuarantine(ms)
redis.call('HSETNX', META, 'wholeCounter', redis.call('HGET', META, 'counter') or 0)
redis.call('HSET', META, 'server', server, 'quarantineUntilMs', whole(now + ms))
redis.call('HDEL', META, 'isRaised')
forgetReport()
end
local function quarantined()
local of = redis.call('HMGET', META, 'server', 'quarantineUntilMs', 'quarantineMs')
if of[1] and of[1] ~= server then
beginQuarantine(tonumber(of[3]))
return true
end
return of[2] ~= false
end
if redis.call('HEXISTS', META, 'plan') == 0 then
return 'OK'
end
if quarantined() then
return QUARANTINED
end
if tonumber(redis.call('HGET', META, 'capacity')) > 0 or redis.call('HLEN', LEASES) > 0 then
return LEASES_WOULD_BE_ORPHANED
end
local of = redis.call('HMGET', META, 'epoch', 'counter')
redis.call(
'UNLINK', META, LEASES, SESSIONS, INDEXES, EXPIRIES, COOLING, FORMER, ANSWERS, ANSWERED, STREAM, HINTS, REPORT,
TENANTS
)
redis.call('HSET', META, 'schema', SCHEMA, 'epoch', of[1], 'counter', of[2])
return 'OK'`,
  },
  renew: {
    name: 'mooring_renew_5da17f86dbd6',
    keys: 15,
    lua: `#!lua flags=allow-oom
local UNDECLARED = -1
local STALE_EPOCH = -3
local QUARANTINED = -16
local function readNow()
local time = redis.call('TIME')
return time[1] * 1000 + math.floor(time[2] / 1000)
end
local now = readNow()
local META, LEASES, SESSIONS, INDEXES, EXPIRIES, COOLING, FORMER, ANSWERS, ANSWERED, STREAM, HINTS, REPORT, TENANTS, CHANNEL, OLDER =
unpack(KEYS)
local SCHEMA = '2'
local function whole(number)
return string.format('%.0f', number)
end
local schema = redis.call('HGET', META, 'schema')
if schema and schema ~= SCHEMA then
error({ err = 'MOORINGSCHEMA ' .. schema })
end
local function readServer()
return string.match(redis.call('INFO', 'replication'), 'master_replid:(%x+)')
end
local server = readServer()
local function forgetReport()
redis.call(
'HDEL', META, 'reportEpoch', 'reportRelay', 'reportBoot', 'reportCounter', 'reportUntilMs',
'reportPlan', 'reportAtMs', 'reportIsTold', 'reportAs', 'restoring', 'restMs', 'restTo', 'isInDoubt', 'isRestored'
)
redis.call('UNLINK', REPORT)
end
local function beginQuarantine(ms)
redis.call('HSETNX', META, 'wholeCounter', redis.call('HGET', META, 'counter') or 0)
redis.call('HSET', META, 'server', server, 'quarantineUntilMs', whole(now + ms))
redis.call('HDEL', META, 'isRaised')
forgetReport()
end
local function quarantined()
local of = redis.call('HMGET', META, 'server', 'quarantineUntilMs', 'quarantineMs')
if of[1] and of[1] ~= server then
beginQuarantine(tonumber(of[3]))
return true
end
return of[2] ~= false
end
local function isBehind(epoch)
local of = redis.call('HMGET', META, 'epoch', 'quarantineMs')
if not of[1] or tonumber(of[1]) >= tonumber(epoch or 0) then
return false
end
beginQuarantine(tonumber(of[2]))
return true
end
local function owner()
local of = redis.call('HMGET', META, 'owner', 'boot', 'epoch', 'untilMs', 'home', 'standby', 'standbyBoot')
return {
relay = of[1],
boot = of[2],
epoch = of[3],
untilMs = tonumber(of[4] or 0),
home = of[5],
standby = of[6],
standbyBoot = of[7],
}
end
local function holdUntil(untilMs)
redis.call('HSET', META, 'untilMs', whole(untilMs))
end
if quarantined() or isBehind(ARGV[2]) then
return QUARANTINED
end
local current = owner()
if not current.home then
return UNDECLARED
end
if current.relay ~= ARGV[1] or current.epoch ~= ARGV[2] then
return STALE_EPOCH
end
local untilMs = math.max(current.untilMs, now + ARGV[3])
holdUntil(untilMs)
return untilMs - now`,
  },
  report: {
    name: 'mooring_report_e7a87dd0759e',
    keys: 15,
    lua: `#!lua flags=allow-oom
local STALE_EPOCH = -3
local QUARANTINED = -16
local UNTOLD = -20
local RESTORING = -21
local function readNow()
local time = redis.call('TIME')
return time[1] * 1000 + math.floor(time[2] / 1000)
end
local now = readNow()
local META, LEASES, SESSIONS, INDEXES, EXPIRIES, COOLING, FORMER, ANSWERS, ANSWERED, STREAM, HINTS, REPORT, TENANTS, CHANNEL, OLDER =
unpack(KEYS)
local SCHEMA = '2'
local function whole(number)
return string.format('%.0f', number)
end
local schema = redis.call('HGET', META, 'schema')
if schema and schema ~= SCHEMA then
error({ err = 'MOORINGSCHEMA ' .. schema })
end
local MOST_EVENTS = 512
local LEAST_EVENTS = 64
local function takeFence()
local counter = redis.call('HINCRBY', META, 'counter', 1)
return redis.call('HGET', META, 'epoch') .. '-' .. whole(counter)
end
local function publish(fence, event)
local length = math.max(LEAST_EVENTS, math.min(MOST_EVENTS, redis.call('HLEN', LEASES)))
redis.call('XADD', STREAM, 'MAXLEN', '~', length, fence, 'event', event)
redis.call('SPUBLISH', CHANNEL, fence)
end
local function readServer()
return string.match(redis.call('INFO', 'replication'), 'master_replid:(%x+)')
end
local server = readServer()
local EPOCHS_LOST = 65536
local FENCES_LOST = 1000
local function forgetReport()
redis.call(
'HDEL', META, 'reportEpoch', 'reportRelay', 'reportBoot', 'reportCounter', 'reportUntilMs',
'reportPlan', 'reportAtMs', 'reportIsTold', 'reportAs', 'restoring', 'restMs', 'restTo', 'isInDoubt', 'isRestored'
)
redis.call('UNLINK', REPORT)
end
local function beginQuarantine(ms)
redis.call('HSETNX', META, 'wholeCounter', redis.call('HGET', META, 'counter') or 0)
redis.call('HSET', META, 'server', server, 'quarantineUntilMs', whole(now + ms))
redis.call('HDEL', META, 'isRaised')
forgetReport()
end
local function quarantined()
local of = redis.call('HMGET', META, 'server', 'quarantineUntilMs', 'quarantineMs')
if of[1] and of[1] ~= server then
beginQuarantine(tonumber(of[3]))
return true
end
return of[2] ~= false
end
local function quarantineIsOver()
return tonumber(redis.call('HGET', META, 'quarantineUntilMs')) <= now
end
local function raise()
local of = redis.call('HMGET', META, 'epoch', 'counter', 'reportEpoch', 'reportCounter', 'isRaised')
if of[5] and tonumber(of[3] or 0) < tonumber(of[1]) and tonumber(of[4] or 0) < tonumber(of[2]) then
return
end
local epoch = math.max(tonumber(of[1]), tonumber(of[3] or 0), now) + EPOCHS_LOST + now % EPOCHS_LOST
local counter = math.max(tonumber(of[2]), tonumber(of[4] or 0)) + FENCES_LOST
redis.call('HSET', META, 'epoch', whole(epoch), 'counter', whole(counter), 'isRaised', '1')
end
local function owner()
local of = redis.call('HMGET', META, 'owner', 'boot', 'epoch', 'untilMs', 'home', 'standby', 'standbyBoot')
return {
relay = of[1],
boot = of[2],
epoch = of[3],
untilMs = tonumber(of[4] or 0),
home = of[5],
standby = of[6],
standbyBoot = of[7],
}
end
local function holdUntil(untilMs)
redis.call('HSET', META, 'untilMs', whole(untilMs))
end
local KEEP_MS = 3600000
local function mostBlocks(plan)
local most = tonumber(redis.call('HGET', META, 'maxPortBlock') or plan.portBlock)
return plan.sharing == 'whole' and 1 or math.max(1, most / plan.portBlock)
end
local MOST_MISSED = 8
local function eachMissed()
local all = {}
for epoch, counter, untilMs in string.gmatch(redis.call('HGET', META, 'missed') or '', '(%d+) (%d+) (%d+);') do
if tonumber(untilMs) > now then
all[#all + 1] = { epoch = tonumber(epoch), counter = tonumber(counter), untilMs = tonumber(untilMs) }
end
end
return all
end
local function storeMissed(all)
local texts = {}
for at = math.max(1, #all - MOST_MISSED + 1), #all do
texts[#texts + 1] = table.concat({ whole(all[at].epoch), whole(all[at].counter), whole(all[at].untilMs) }, ' ') .. ';'
end
redis.call('HSET', META, 'missed', table.concat(texts))
end
local function noteMissed(epoch, counter)
local all = eachMissed()
all[#all + 1] = { epoch = epoch, counter = counter, untilMs = now + KEEP_MS }
storeMissed(all)
end
local function followPlan(plan)
if not plan or plan == '' then
return
end
local of = cjson.decode(plan)
local stored = redis.call('HGET', META, 'plan')
local known = stored and cjson.decode(stored)
local isEmptied = redis.call('HGET', META, 'frontier') == '0' and redis.call('HLEN', LEASES) == 0
local hasGrown = known and of.slots > known.slots and table.concat(of.key, ' ') == table.concat(known.key, ' ')
if isEmptied or hasGrown then
redis.call('HSET', META, 'plan', plan, 'pool', of.pool, 'capacity', of.capacity, 'slots', of.slots)
end
end
local function noteLostEnd(reportEpoch, wholeCounter)
if reportEpoch - tonumber(redis.call('HGET', META, 'epoch')) >= EPOCHS_LOST then
noteMissed(reportEpoch, wholeCounter)
end
end
local function beginRestoring(how)
local of = redis.call('HMGET', META, 'reportIsTold', 'reportPlan', 'reportCounter', 'wholeCounter', 'coolingMs', 'reportAs', 'reportEpoch')
if of[1] then
followPlan(of[2])
end
local isInDoubt = not of[1] or of[6] ~= 'owner'
local lost = isInDoubt and FENCES_LOST or math.max(0, tonumber(of[3]) - tonumber(of[4]))
noteLostEnd(of[1] and tonumber(of[7]) or 0, tonumber(of[4] or 0))
raise()
noteMissed(tonumber(redis.call('HGET', META, 'epoch')), math.max(tonumber(of[4] or 0), of[1] and tonumber(of[3]) or 0))
redis.call('HINCRBY', META, 'nextIndex', FENCES_LOST)
if isInDoubt then
redis.call('HSET', META, 'isInDoubt', '1')
end
if lost > 0 then
local at = redis.call('HMGET', META, 'frontier', 'slots')
local plan = redis.call('HGET', META, 'plan')
local most = plan and mostBlocks(cjson.decode(plan)) > 1 and tonumber(at[2]) or tonumber(at[1]) + lost
local to = math.max(tonumber(at[1]), math.min(most, tonumber(at[2])))
redis.call('HSET', META, 'restMs', whole(now + tonumber(of[5])), 'restTo', whole(to))
end
redis.call('HSET', META, 'restoring', how .. (of[1] and ' ended 0' or ' rest 0'))
end
local relay, boot = ARGV[1], ARGV[2]
if not quarantined() then
local current = owner()
return current.relay == relay and current.boot == boot and current.epoch or STALE_EPOCH
end
if redis.call('HEXISTS', META, 'restoring') == 1 then
return RESTORING
end
local known = redis.call('HMGET', META, 'reportEpoch', 'reportRelay', 'reportBoot', 'reportCounter', 'reportAs')
local current = owner()
local isStandby = current.standby == relay and current.standbyBoot == boot
if ARGV[8] ~= 'owner' and current.relay and current.relay ~= relay and not isStandby then
return QUARANTINED
end
local function outdoes()
local epoch, counter = tonumber(ARGV[3]), tonumber(ARGV[4])
local ofKnown = { tonumber(known[1] or 0), tonumber(known[4] or 0) }
if epoch ~= ofKnown[1] then
return epoch > ofKnown[1]
end
if (ARGV[8] == 'standby') ~= (known[5] == 'standby') then
return known[5] == 'standby'
end
return known[2] == relay or counter > ofKnown[2] or counter == ofKnown[2] and current.relay == relay
end
if not known[1] or outdoes() then
if known[1] ~= ARGV[3] or known[2] ~= relay or known[3] ~= boot or known[4] ~= ARGV[4] then
forgetReport()
redis.call('HSET', META, 'reportPlan', ARGV[7] or '', 'reportAtMs', whole(now), 'reportAs', ARGV[8])
end
redis.call(
'HSET', META, 'reportEpoch', ARGV[3], 'reportRelay', relay, 'reportBoot', boot, 'reportCounter', ARGV[4],
'reportUntilMs', whole(now + ARGV[5])
)
if redis.call('HEXISTS', META, 'reportIsTold') == 0 then
return UNTOLD
end
end
local alone = ARGV[6] ~= '1' and not current.standby and current.relay == relay and current.boot == boot
if not alone and not quarantineIsOver() then
return QUARANTINED
end
local highest = redis.call('HMGET', META, 'reportRelay', 'reportBoot')
if highest[1] ~= relay or highest[2] ~= boot then
return STALE_EPOCH
end
beginRestoring('report')
redis.call('HSET', META, 'owner', relay, 'boot', boot)
redis.call('HDEL', META, 'standby', 'standbyBoot')
holdUntil(now + ARGV[5])
publish(takeFence(), 'owned ' .. relay)
return RESTORING`,
  },
  restore: {
    name: 'mooring_restore_fb5a1f0b0ee6',
    keys: 15,
    lua: `#!lua flags=allow-oom
local WITHDRAWN = -9
local REQUEST_ENDED = -11
local function readNow()
local time = redis.call('TIME')
return time[1] * 1000 + math.floor(time[2] / 1000)
end
local now = readNow()
local META, LEASES, SESSIONS, INDEXES, EXPIRIES, COOLING, FORMER, ANSWERS, ANSWERED, STREAM, HINTS, REPORT, TENANTS, CHANNEL, OLDER =
unpack(KEYS)
local SCHEMA = '2'
local function whole(number)
return string.format('%.0f', number)
end
local schema = redis.call('HGET', META, 'schema')
if schema and schema ~= SCHEMA then
error({ err = 'MOORINGSCHEMA ' .. schema })
end
local MOST_EVENTS = 512
local LEAST_EVENTS = 64
local function takeFence()
local counter = redis.call('HINCRBY', META, 'counter', 1)
return redis.call('HGET', META, 'epoch') .. '-' .. whole(counter)
end
local function publish(fence, event)
local length = math.max(LEAST_EVENTS, math.min(MOST_EVENTS, redis.call('HLEN', LEASES)))
redis.call('XADD', STREAM, 'MAXLEN', '~', length, fence, 'event', event)
redis.call('SPUBLISH', CHANNEL, fence)
end
local LEASE_WORDS = '^' .. string.rep('(%S+) ', 10) .. '(%S+)$'
local SESSION_WORDS = '^' .. string.rep('(%S+) ', 5) .. '(%S+)$'
local ANCHOR_NAME = string.match(META, '{a:(.*)}')
local function nameOf(id)
return string.sub(id, #ANCHOR_NAME + 2)
end
local function encodeLease(lease)
local pending = lease.state == 'pending' and whole(lease.pendingUntilMs) or '-'
return table.concat({
lease.device, lease.slot, lease.address, lease.ports, lease.spis, lease.ikeSpis, lease.remote, pending,
whole(lease.expiresAtMs), lease.fence, whole(lease.bindId),
}, ' ')
end
local function decodeLease(name, record)
local device, slot, address, ports, spis, ikeSpis, remote, pending, expires, fence, bindId =
string.match(record, LEASE_WORDS)
return {
id = ANCHOR_NAME .. '.' .. name,
device = device,
slot = slot,
address = address,
ports = ports,
spis = spis,
ikeSpis = ikeSpis,
remote = remote,
state = pending == '-' and 'active' or 'pending',
pendingUntilMs = tonumber(pending),
expiresAtMs = tonumber(expires),
fence = fence,
bindId = tonumber(bindId),
}
end
local function encodeSession(session)
return table.concat({
session.index, session.id, session.thumbprint, session.salt, session.replaces, table.concat(session.leases, ','),
}, ' ')
end
local function decodeSession(device, record)
local index, id, thumbprint, salt, replaces, named = string.match(record, SESSION_WORDS)
local leases = {}
for name in string.gmatch(named, '[^,]+') do
leases[#leases + 1] = name
end
return {
device = device,
index = index,
id = id,
thumbprint = thumbprint,
salt = salt,
replaces = replaces,
leases = leases,
}
end
local KEEP_MS = 3600000
local KEEP_COUNT = 16384
local BY_TIME = '.0'
local function forgetOldest(count)
local oldest = redis.call('ZPOPMIN', ANSWERED, count)
for at = 1, #oldest, 2 do
redis.call('HDEL', ANSWERS, oldest[at])
end
end
local function remember(request, answer)
redis.call('HSET', ANSWERS, request, answer)
redis.call('ZADD', ANSWERED, whole(now + KEEP_MS), request)
local surplus = redis.call('ZCARD', ANSWERED) - KEEP_COUNT
if surplus > 0 then
forgetOldest(surplus)
redis.call('HDEL', META, 'missed')
end
for _ = 1, 2 do
local first = redis.call('ZRANGE', ANSWERED, 0, 0, 'WITHSCORES')
if first[2] == nil or tonumber(first[2]) > now then
break
end
forgetOldest(1)
end
end
local WORD = 4294967296
local ROUNDS = 4
local function times(a, b)
local high = math.floor(a / 65536)
local low = a % 65536
return ((high * b) % 65536 * 65536 + low * b) % WORD
end
local function mix(value)
value = bit.bxor(value, bit.rshift(value, 16)) % WORD
value = times(value, 2246822507)
value = bit.bxor(value, bit.rshift(value, 13)) % WORD
value = times(value, 3266489909)
return bit.bxor(value, bit.rshift(value, 16)) % WORD
end
local function walk(value, width, key, tweak, from, to, step)
local leftWidth = math.floor(width / 2)
local leftSize = 2 ^ leftWidth
local rightSize = 2 ^ (width - leftWidth)
local left = math.floor(value / rightSize)
local right = value % rightSize
for round = from, to, step do
local word = (key[(round - 1) % #key + 1] + times(round + tweak * ROUNDS, 2654435769)) % WORD
if round % 2 == 1 then
left = bit.bxor(left, mix((right + word) % WORD) % leftSize) % WORD
else
right = bit.bxor(right, mix((left + word) % WORD) % rightSize) % WORD
end
end
return left * rightSize + right
end
local function unpermute(value, width, key, tweak)
return walk(value, width, key, tweak, ROUNDS, 1, -1)
end
local function isV6(address)
return string.find(address, ':', 1, true) ~= nil
end
local function hexOf(address)
if not isV6(address) then
return string.format('%02x%02x%02x%02x', string.match(address, '(%d+)%.(%d+)%.(%d+)%.(%d+)'))
end
local function groupsOf(text)
return (string.gsub(text, '(%x+):?', function(group) return string.rep('0', 4 - #group) .. group end))
end
local head, tail = string.match(address, '^(.*)::(.*)$')
head, tail = groupsOf(head or address), groupsOf(tail or '')
return head .. string.rep('0', 32 - #head - #tail) .. tail
end
local function placeOfSlot(plan, slot)
slot = tonumber(slot)
for _, segment in ipairs(plan.segments) do
local number = slot - segment.first
if number >= 0 and number < segment.slots then
local ordinal = number % segment.addresses
for at, prefix in ipairs(segment.prefixes) do
if ordinal < prefix.addresses then
return { segment = segment, number = number, prefix = prefix, ordinal = ordinal, tweak = segment.tweak + at }
end
ordinal = ordinal - prefix.addresses
end
end
end
end
local function formerSlots(device)
local slots = {}
for slot in string.gmatch(redis.call('HGET', FORMER, 'd:' .. device) or '', '%d+') do
slots[#slots + 1] = slot
end
return slots
end
local function forgetFormer(device, slot)
local left = {}
for _, other in ipairs(formerSlots(device)) do
if other ~= slot then
left[#left + 1] = other
end
end
if #left > 0 then
redis.call('HSET', FORMER, 'd:' .. device, table.concat(left, ','))
else
redis.call('HDEL', FORMER, 'd:' .. device)
end
end
local function forgetSlot(slot)
local device = redis.call('HGET', FORMER, 's:' .. slot)
if device then
forgetFormer(device, slot)
redis.call('HDEL', FORMER, 's:' .. slot)
end
end
local function takeSlot(slot)
local number = tonumber(slot)
local frontier = tonumber(redis.call('HGET', META, 'frontier'))
if number < frontier then
redis.call('ZREM', COOLING, slot)
forgetSlot(slot)
return
end
for skipped = frontier, number - 1 do
redis.call('ZADD', COOLING, 0, whole(skipped))
end
redis.call('HSET', META, 'frontier', whole(number + 1))
end
local function coolSlot(slot, device)
local coolingMs = tonumber(redis.call('HGET', META, 'coolingMs'))
redis.call('ZADD', COOLING, whole(now + coolingMs), slot)
redis.call('HSET', FORMER, 's:' .. slot, device)
local former = formerSlots(device)
former[#former + 1] = slot
redis.call('HSET', FORMER, 'd:' .. device, table.concat(former, ','))
end
local function portsIn(text)
local first, width = string.match(text, '^(%d+)/(%d+)$')
return tonumber(first), first and 2 ^ tonumber(width)
end
local function slotsOfPorts(plan, slot, first, count)
local place = placeOfSlot(plan, slot)
if not place then
return nil
end
local segment, slots = place.segment, {}
local ordinal = place.number % segment.addresses
for block = first / plan.portBlock, (first + count) / plan.portBlock - 1 do
local row = block - plan.firstPortBlock
local number = row * segment.addresses + ordinal
if row < 0 or number >= segment.slots then
return nil
end
slots[#slots + 1] = whole(segment.first + number)
end
return slots
end
local function slotsIn(plan, lease)
local first, count = portsIn(lease.ports)
local isDoubled = first and count > plan.portBlock
return isDoubled and slotsOfPorts(plan, lease.slot, first, count) or { lease.slot }
end
local function countExtraSlots(more)
if more ~= 0 then
redis.call('HINCRBY', META, 'extraSlots', more)
end
end
local function slotsOf(lease)
if (redis.call('HGET', META, 'extraSlots') or '0') == '0' then
return { lease.slot }
end
return slotsIn(cjson.decode(redis.call('HGET', META, 'plan')), lease)
end
local function coolSlots(slots, device)
for _, slot in ipairs(slots) do
coolSlot(slot, device)
end
countExtraSlots(1 - #slots)
end
local function takeMoreSlots(slots)
for _, slot in ipairs(slots) do
takeSlot(slot)
end
countExtraSlots(#slots)
end
local function readServer()
return string.match(redis.call('INFO', 'replication'), 'master_replid:(%x+)')
end
local server = readServer()
local function forgetReport()
redis.call(
'HDEL', META, 'reportEpoch', 'reportRelay', 'reportBoot', 'reportCounter', 'reportUntilMs',
'reportPlan', 'reportAtMs', 'reportIsTold', 'reportAs', 'restoring', 'restMs', 'restTo', 'isInDoubt', 'isRestored'
)
redis.call('UNLINK', REPORT)
end
local function beginQuarantine(ms)
redis.call('HSETNX', META, 'wholeCounter', redis.call('HGET', META, 'counter') or 0)
redis.call('HSET', META, 'server', server, 'quarantineUntilMs', whole(now + ms))
redis.call('HDEL', META, 'isRaised')
forgetReport()
end
local function quarantined()
local of = redis.call('HMGET', META, 'server', 'quarantineUntilMs', 'quarantineMs')
if of[1] and of[1] ~= server then
beginQuarantine(tonumber(of[3]))
return true
end
return of[2] ~= false
end
local function endQuarantine()
redis.call('HDEL', META, 'quarantineUntilMs', 'isRaised', 'wholeCounter')
forgetReport()
end
local function tenantOf(device)
return string.match(device, '^[^/]*')
end
local function allowanceOf(tenant)
local used, allowed, number, epoch =
string.match(redis.call('HGET', TENANTS, tenant) or '0 0 0 0', '^(%d+) (%d+) (%d+) (%d+)$')
local isCurrent = epoch == redis.call('HGET', META, 'epoch')
return {
used = tonumber(used),
allowed = isCurrent and tonumber(allowed) or 0,
number = isCurrent and number or '0',
}
end
local function saveAllowance(tenant, allowance)
local epoch = redis.call('HGET', META, 'epoch')
local words = { whole(allowance.used), whole(allowance.allowed), allowance.number, epoch }
redis.call('HSET', TENANTS, tenant, table.concat(words, ' '))
end
local function countLease(device, more)
if redis.call('HEXISTS', META, 'maxLeasesPerTenant') == 0 then
return
end
local tenant = tenantOf(device)
local allowance = allowanceOf(tenant)
allowance.used = allowance.used + more
if allowance.used > 0 then
saveAllowance(tenant, allowance)
else
redis.call('HDEL', TENANTS, tenant)
end
end
local function leaseOf(id)
local name = nameOf(id)
local record = redis.call('HGET', LEASES, name)
return record and decodeLease(name, record)
end
local function save(lease)
redis.call('HSET', LEASES, nameOf(lease.id), encodeLease(lease))
end
local function sessionOf(device)
local record = redis.call('HGET', SESSIONS, device)
return record and decodeSession(device, record)
end
local function saveSession(session)
redis.call('HSET', SESSIONS, session.device, encodeSession(session))
end
local function announce(kind, lease, session)
lease.fence = takeFence()
publish(lease.fence, table.concat({ kind, nameOf(lease.id), session.id, encodeLease(lease) }, ' '))
end
local function shown(lease, session)
return table.concat({ lease.id, redis.call('HGET', META, 'pool'), session.id, encodeLease(lease) }, ' ')
end
local function forgetSession(session)
redis.call('HDEL', SESSIONS, session.device)
redis.call('SETBIT', INDEXES, session.index, 0)
redis.call('HDEL', HINTS, session.id)
end
local function leaveSession(session, lease)
local name = nameOf(lease.id)
local left = {}
for _, other in ipairs(session.leases) do
if other ~= name then
left[#left + 1] = other
end
end
session.leases = left
if #left > 0 then
saveSession(session)
else
forgetSession(session)
end
end
local function endLease(lease, reason)
local session = sessionOf(lease.device)
announce('ended ' .. reason, lease, session)
redis.call('HDEL', LEASES, nameOf(lease.id))
redis.call('ZREM', EXPIRIES, nameOf(lease.id))
countLease(lease.device, -1)
coolSlots(slotsOf(lease), lease.device)
leaveSession(session, lease)
remember(lease.id, 'C' .. (reason == 'withdrawn' and WITHDRAWN or REQUEST_ENDED) .. (reason == 'expired' and BY_TIME or ''))
return shown(lease, session)
end
local LOW_DIGITS = 12
local function lowOf(hex)
return tonumber(string.sub(hex, -LOW_DIGITS), 16)
end
local function ordinalOf(plan, segment, hex)
local before = 0
for at, prefix in ipairs(segment.prefixes) do
if #prefix.hex == #hex and string.sub(prefix.hex, 1, -LOW_DIGITS - 1) == string.sub(hex, 1, -LOW_DIGITS - 1) then
local host = lowOf(hex) - lowOf(prefix.hex)
if host >= 0 and host < 2 ^ prefix.width then
local ordinal = unpermute(host, prefix.width, plan.key, segment.tweak + at)
if ordinal < prefix.addresses then
return before + ordinal
end
end
end
before = before + prefix.addresses
end
end
local function slotOf(plan, hex, port)
local row = port and port / plan.portBlock - plan.firstPortBlock or 0
for _, segment in ipairs(plan.segments) do
local ordinal = ordinalOf(plan, segment, hex)
local number = ordinal and row * segment.addresses + ordinal
if number and number >= 0 and number < segment.slots then
return whole(segment.first + number)
end
end
end
local function eachMissed()
local all = {}
for epoch, counter, untilMs in string.gmatch(redis.call('HGET', META, 'missed') or '', '(%d+) (%d+) (%d+);') do
if tonumber(untilMs) > now then
all[#all + 1] = { epoch = tonumber(epoch), counter = tonumber(counter), untilMs = tonumber(untilMs) }
end
end
return all
end
local function missing(all, epoch, counter)
for _, one in ipairs(all) do
if epoch < one.epoch then
return counter > one.counter and one or nil
end
end
end
local RESTORED_PENDING_MS = 10000
local SKEW_MS = 2000
local function counterIn(fence)
return tonumber(string.match(fence, '%-(%d+)$'))
end
local function restoreEnded(cursor, limit)
local counter = tonumber(redis.call('HGET', META, 'reportCounter'))
local page = redis.call('HSCAN', LEASES, cursor, 'COUNT', limit)
for at = 1, #page[2], 2 do
local name = page[2][at]
local lease = decodeLease(name, page[2][at + 1])
local isKnown = redis.call('HEXISTS', REPORT, name) == 1
if not isKnown and counterIn(lease.fence) <= counter then
endLease(lease, lease.state == 'pending' and 'withdrawn' or 'freed')
end
end
return page[1]
end
local function restAll(_, limit)
local restMs, restTo = unpack(redis.call('HMGET', META, 'restMs', 'restTo'))
if not restMs then
return '0'
end
local resting = redis.call('ZRANGEBYSCORE', COOLING, '-inf', '(' .. restMs, 'WITHSCORES', 'LIMIT', 0, limit)
for at = 1, #resting, 2 do
if tonumber(resting[at + 1]) <= now + SKEW_MS then
forgetSlot(resting[at])
end
redis.call('ZADD', COOLING, restMs, resting[at])
end
local frontier = tonumber(redis.call('HGET', META, 'frontier'))
local to = math.min(math.max(tonumber(restTo), frontier), frontier + limit)
for slot = frontier, to - 1 do
redis.call('ZADD', COOLING, restMs, whole(slot))
end
redis.call('HSET', META, 'frontier', whole(to))
return #resting < 2 * limit and to >= tonumber(restTo) and '0' or '1'
end
local function lostSlots(plan, stored, lease)
local held, lost = {}, {}
for _, slot in ipairs(stored and slotsIn(plan, stored) or {}) do
held[slot] = true
end
local frontier = tonumber(redis.call('HGET', META, 'frontier'))
for _, slot in ipairs(slotsIn(plan, lease)) do
if not held[slot] then
if tonumber(slot) < frontier and not redis.call('ZSCORE', COOLING, slot) then
return nil
end
lost[#lost + 1] = slot
end
end
return lost
end
local function heldFrom(text, saidMs)
local id, session, record = string.match(text, '^(%S+) %S+ (%S+) (.*)$')
local lease = decodeLease(nameOf(id), record)
lease.session = session
lease.remainingMs = lease.expiresAtMs - (now - saidMs)
return lease
end
local function reportedSession(lease)
local record = redis.call('HGET', REPORT, lease.device)
local session = record and decodeSession(lease.device, record)
if not session or session.id ~= lease.session then
return nil
end
session.leases = {}
return session
end
local function restoreSession(session)
local other = sessionOf(session.device)
if other and other.id == session.id then
return other
end
if other then
session.leases = other.leases
forgetSession(other)
end
redis.call('SETBIT', INDEXES, session.index, 1)
local next = tonumber(redis.call('HGET', META, 'nextIndex') or 0)
redis.call('HSET', META, 'nextIndex', whole(math.max(next, session.index)))
return session
end
local function joinSession(session, lease)
local name = nameOf(lease.id)
for _, other in ipairs(session.leases) do
if other == name then
return
end
end
session.leases[#session.leases + 1] = name
end
local function hasEnded(wholeCounter, missed, lease)
local counter = counterIn(lease.fence)
return counter <= wholeCounter and not missing(missed, tonumber(string.match(lease.fence, '^%d+')), counter)
end
local function restAnew(slots)
local coolMs = whole(now + tonumber(redis.call('HGET', META, 'coolingMs')))
for _, slot in ipairs(slots) do
redis.call('ZADD', COOLING, 'XX', 'GT', coolMs, slot)
end
end
local function restoreLease(plan, wholeCounter, missed, lease)
local stored = leaseOf(lease.id)
local first, count = portsIn(lease.ports)
lease.slot = stored and stored.slot or slotOf(plan, hexOf(lease.address), first)
if stored and first and select(2, portsIn(stored.ports)) > count then
lease.ports = stored.ports
end
local lost = lease.slot and lostSlots(plan, stored, lease)
if not stored and hasEnded(wholeCounter, missed, lease) then
restAnew(lost or {})
return
end
local session = reportedSession(lease)
local isActivated = stored and stored.state == 'pending' and lease.state == 'active'
local isLater = stored and lease.remainingMs > stored.expiresAtMs - now + SKEW_MS
local isNews = not stored
or counterIn(stored.fence) < counterIn(lease.fence)
or stored.fence == lease.fence and isLater
or isActivated
if lost and session and isNews and lease.remainingMs > 0 then
takeMoreSlots(lost)
countExtraSlots(stored and 0 or -1)
if not stored then
countLease(lease.device, 1)
end
session = restoreSession(session)
lease.expiresAtMs = now + lease.remainingMs
lease.pendingUntilMs = now + RESTORED_PENDING_MS
joinSession(session, lease)
announce(lease.state == 'active' and 'activated' or 'extended', lease, session)
save(lease)
saveSession(session)
local endsMs = lease.state == 'active' and lease.expiresAtMs or math.min(lease.expiresAtMs, lease.pendingUntilMs)
redis.call('ZADD', EXPIRIES, whole(endsMs), nameOf(lease.id))
end
end
local function restoreDoubted(cursor, limit)
if redis.call('HEXISTS', META, 'isInDoubt') == 0 then
return '0'
end
local page = redis.call('HSCAN', LEASES, cursor, 'COUNT', limit)
for at = 1, #page[2], 2 do
local lease = decodeLease(page[2][at], page[2][at + 1])
if lease.state == 'pending' then
lease.state = 'active'
announce('activated', lease, sessionOf(lease.device))
save(lease)
redis.call('ZADD', EXPIRIES, whole(lease.expiresAtMs), page[2][at])
end
end
return page[1]
end
local function restoreHeld(cursor, limit)
local of = redis.call('HMGET', META, 'plan', 'reportAtMs', 'wholeCounter')
local plan, missed = cjson.decode(of[1]), eachMissed()
local page = redis.call('HSCAN', REPORT, cursor, 'COUNT', limit)
for at = 1, #page[2], 2 do
if not string.find(page[2][at], '/', 1, true) then
restoreLease(plan, tonumber(of[3]), missed, heldFrom(page[2][at + 1], tonumber(of[2])))
end
end
return page[1]
end
local STEPS = { ended = restoreEnded, rest = restAll, held = restoreHeld, doubted = restoreDoubted }
local AFTER = { ended = 'rest', rest = 'held', held = 'doubted' }
local function restoreSome(limit)
local how, step, cursor = string.match(redis.call('HGET', META, 'restoring'), '^(%S+) (%S+) (%S+)$')
cursor = STEPS[step](cursor, limit)
if cursor == '0' then
step = AFTER[step]
end
if step then
redis.call('HSET', META, 'restoring', how .. ' ' .. step .. ' ' .. cursor)
return true
end
if how == 'report' then
endQuarantine()
else
forgetReport()
redis.call('HSET', META, 'isRestored', '1')
end
return false
end
if not quarantined() or redis.call('HEXISTS', META, 'restoring') == 0 then
return 0
end
return restoreSome(tonumber(ARGV[1])) and 1 or 0`,
  },
  revoke: {
    name: 'mooring_revoke_1023e06a6141',
    keys: 15,
    lua: `#!lua flags=allow-oom
local BAD_BIND = -6
local WITHDRAWN = -9
local REQUEST_ENDED = -11
local QUARANTINED = -16
local function readNow()
local time = redis.call('TIME')
return time[1] * 1000 + math.floor(time[2] / 1000)
end
local now = readNow()
local META, LEASES, SESSIONS, INDEXES, EXPIRIES, COOLING, FORMER, ANSWERS, ANSWERED, STREAM, HINTS, REPORT, TENANTS, CHANNEL, OLDER =
unpack(KEYS)
local SCHEMA = '2'
local function whole(number)
return string.format('%.0f', number)
end
local schema = redis.call('HGET', META, 'schema')
if schema and schema ~= SCHEMA then
error({ err = 'MOORINGSCHEMA ' .. schema })
end
local MOST_EVENTS = 512
local LEAST_EVENTS = 64
local function takeFence()
local counter = redis.call('HINCRBY', META, 'counter', 1)
return redis.call('HGET', META, 'epoch') .. '-' .. whole(counter)
end
local function publish(fence, event)
local length = math.max(LEAST_EVENTS, math.min(MOST_EVENTS, redis.call('HLEN', LEASES)))
redis.call('XADD', STREAM, 'MAXLEN', '~', length, fence, 'event', event)
redis.call('SPUBLISH', CHANNEL, fence)
end
local LEASE_WORDS = '^' .. string.rep('(%S+) ', 10) .. '(%S+)$'
local SESSION_WORDS = '^' .. string.rep('(%S+) ', 5) .. '(%S+)$'
local ANCHOR_NAME = string.match(META, '{a:(.*)}')
local function nameOf(id)
return string.sub(id, #ANCHOR_NAME + 2)
end
local function encodeLease(lease)
local pending = lease.state == 'pending' and whole(lease.pendingUntilMs) or '-'
return table.concat({
lease.device, lease.slot, lease.address, lease.ports, lease.spis, lease.ikeSpis, lease.remote, pending,
whole(lease.expiresAtMs), lease.fence, whole(lease.bindId),
}, ' ')
end
local function decodeLease(name, record)
local device, slot, address, ports, spis, ikeSpis, remote, pending, expires, fence, bindId =
string.match(record, LEASE_WORDS)
return {
id = ANCHOR_NAME .. '.' .. name,
device = device,
slot = slot,
address = address,
ports = ports,
spis = spis,
ikeSpis = ikeSpis,
remote = remote,
state = pending == '-' and 'active' or 'pending',
pendingUntilMs = tonumber(pending),
expiresAtMs = tonumber(expires),
fence = fence,
bindId = tonumber(bindId),
}
end
local function encodeSession(session)
return table.concat({
session.index, session.id, session.thumbprint, session.salt, session.replaces, table.concat(session.leases, ','),
}, ' ')
end
local function decodeSession(device, record)
local index, id, thumbprint, salt, replaces, named = string.match(record, SESSION_WORDS)
local leases = {}
for name in string.gmatch(named, '[^,]+') do
leases[#leases + 1] = name
end
return {
device = device,
index = index,
id = id,
thumbprint = thumbprint,
salt = salt,
replaces = replaces,
leases = leases,
}
end
local function deviceShown(text)
return string.match(text, '^%S+ %S+ %S+ (%S+)')
end
local KEEP_MS = 3600000
local KEEP_COUNT = 16384
local BY_TIME = '.0'
local function recall(request)
return redis.call('HGET', ANSWERS, request)
end
local function forgetOldest(count)
local oldest = redis.call('ZPOPMIN', ANSWERED, count)
for at = 1, #oldest, 2 do
redis.call('HDEL', ANSWERS, oldest[at])
end
end
local function remember(request, answer)
redis.call('HSET', ANSWERS, request, answer)
redis.call('ZADD', ANSWERED, whole(now + KEEP_MS), request)
local surplus = redis.call('ZCARD', ANSWERED) - KEEP_COUNT
if surplus > 0 then
forgetOldest(surplus)
redis.call('HDEL', META, 'missed')
end
for _ = 1, 2 do
local first = redis.call('ZRANGE', ANSWERED, 0, 0, 'WITHSCORES')
if first[2] == nil or tonumber(first[2]) > now then
break
end
forgetOldest(1)
end
end
local function placeOfSlot(plan, slot)
slot = tonumber(slot)
for _, segment in ipairs(plan.segments) do
local number = slot - segment.first
if number >= 0 and number < segment.slots then
local ordinal = number % segment.addresses
for at, prefix in ipairs(segment.prefixes) do
if ordinal < prefix.addresses then
return { segment = segment, number = number, prefix = prefix, ordinal = ordinal, tweak = segment.tweak + at }
end
ordinal = ordinal - prefix.addresses
end
end
end
end
local function formerSlots(device)
local slots = {}
for slot in string.gmatch(redis.call('HGET', FORMER, 'd:' .. device) or '', '%d+') do
slots[#slots + 1] = slot
end
return slots
end
local function coolSlot(slot, device)
local coolingMs = tonumber(redis.call('HGET', META, 'coolingMs'))
redis.call('ZADD', COOLING, whole(now + coolingMs), slot)
redis.call('HSET', FORMER, 's:' .. slot, device)
local former = formerSlots(device)
former[#former + 1] = slot
redis.call('HSET', FORMER, 'd:' .. device, table.concat(former, ','))
end
local function portsIn(text)
local first, width = string.match(text, '^(%d+)/(%d+)$')
return tonumber(first), first and 2 ^ tonumber(width)
end
local function slotsOfPorts(plan, slot, first, count)
local place = placeOfSlot(plan, slot)
if not place then
return nil
end
local segment, slots = place.segment, {}
local ordinal = place.number % segment.addresses
for block = first / plan.portBlock, (first + count) / plan.portBlock - 1 do
local row = block - plan.firstPortBlock
local number = row * segment.addresses + ordinal
if row < 0 or number >= segment.slots then
return nil
end
slots[#slots + 1] = whole(segment.first + number)
end
return slots
end
local function slotsIn(plan, lease)
local first, count = portsIn(lease.ports)
local isDoubled = first and count > plan.portBlock
return isDoubled and slotsOfPorts(plan, lease.slot, first, count) or { lease.slot }
end
local function countExtraSlots(more)
if more ~= 0 then
redis.call('HINCRBY', META, 'extraSlots', more)
end
end
local function slotsOf(lease)
if (redis.call('HGET', META, 'extraSlots') or '0') == '0' then
return { lease.slot }
end
return slotsIn(cjson.decode(redis.call('HGET', META, 'plan')), lease)
end
local function coolSlots(slots, device)
for _, slot in ipairs(slots) do
coolSlot(slot, device)
end
countExtraSlots(1 - #slots)
end
local function readServer()
return string.match(redis.call('INFO', 'replication'), 'master_replid:(%x+)')
end
local server = readServer()
local function forgetReport()
redis.call(
'HDEL', META, 'reportEpoch', 'reportRelay', 'reportBoot', 'reportCounter', 'reportUntilMs',
'reportPlan', 'reportAtMs', 'reportIsTold', 'reportAs', 'restoring', 'restMs', 'restTo', 'isInDoubt', 'isRestored'
)
redis.call('UNLINK', REPORT)
end
local function beginQuarantine(ms)
redis.call('HSETNX', META, 'wholeCounter', redis.call('HGET', META, 'counter') or 0)
redis.call('HSET', META, 'server', server, 'quarantineUntilMs', whole(now + ms))
redis.call('HDEL', META, 'isRaised')
forgetReport()
end
local function quarantined()
local of = redis.call('HMGET', META, 'server', 'quarantineUntilMs', 'quarantineMs')
if of[1] and of[1] ~= server then
beginQuarantine(tonumber(of[3]))
return true
end
return of[2] ~= false
end
local function tenantOf(device)
return string.match(device, '^[^/]*')
end
local function allowanceOf(tenant)
local used, allowed, number, epoch =
string.match(redis.call('HGET', TENANTS, tenant) or '0 0 0 0', '^(%d+) (%d+) (%d+) (%d+)$')
local isCurrent = epoch == redis.call('HGET', META, 'epoch')
return {
used = tonumber(used),
allowed = isCurrent and tonumber(allowed) or 0,
number = isCurrent and number or '0',
}
end
local function saveAllowance(tenant, allowance)
local epoch = redis.call('HGET', META, 'epoch')
local words = { whole(allowance.used), whole(allowance.allowed), allowance.number, epoch }
redis.call('HSET', TENANTS, tenant, table.concat(words, ' '))
end
local function countLease(device, more)
if redis.call('HEXISTS', META, 'maxLeasesPerTenant') == 0 then
return
end
local tenant = tenantOf(device)
local allowance = allowanceOf(tenant)
allowance.used = allowance.used + more
if allowance.used > 0 then
saveAllowance(tenant, allowance)
else
redis.call('HDEL', TENANTS, tenant)
end
end
local function leaseOf(id)
local name = nameOf(id)
local record = redis.call('HGET', LEASES, name)
return record and decodeLease(name, record)
end
local function sessionOf(device)
local record = redis.call('HGET', SESSIONS, device)
return record and decodeSession(device, record)
end
local function saveSession(session)
redis.call('HSET', SESSIONS, session.device, encodeSession(session))
end
local function announce(kind, lease, session)
lease.fence = takeFence()
publish(lease.fence, table.concat({ kind, nameOf(lease.id), session.id, encodeLease(lease) }, ' '))
end
local function shown(lease, session)
return table.concat({ lease.id, redis.call('HGET', META, 'pool'), session.id, encodeLease(lease) }, ' ')
end
local function isOver(lease)
return lease.expiresAtMs <= now or (lease.state == 'pending' and lease.pendingUntilMs <= now)
end
local function forgetSession(session)
redis.call('HDEL', SESSIONS, session.device)
redis.call('SETBIT', INDEXES, session.index, 0)
redis.call('HDEL', HINTS, session.id)
end
local function leaveSession(session, lease)
local name = nameOf(lease.id)
local left = {}
for _, other in ipairs(session.leases) do
if other ~= name then
left[#left + 1] = other
end
end
session.leases = left
if #left > 0 then
saveSession(session)
else
forgetSession(session)
end
end
local function endLease(lease, reason)
local session = sessionOf(lease.device)
announce('ended ' .. reason, lease, session)
redis.call('HDEL', LEASES, nameOf(lease.id))
redis.call('ZREM', EXPIRIES, nameOf(lease.id))
countLease(lease.device, -1)
coolSlots(slotsOf(lease), lease.device)
leaveSession(session, lease)
remember(lease.id, 'C' .. (reason == 'withdrawn' and WITHDRAWN or REQUEST_ENDED) .. (reason == 'expired' and BY_TIME or ''))
return shown(lease, session)
end
if quarantined() then
return QUARANTINED
end
local function isForeign(device)
return ARGV[2] ~= '' and string.match(device, '^[^/]*') ~= ARGV[2]
end
local request = 'revoke:' .. ARGV[1]
local answered = recall(request)
if answered then
return isForeign(deviceShown(answered)) and BAD_BIND or { now, answered }
end
local lease = leaseOf(ARGV[1])
if not lease or isOver(lease) or isForeign(lease.device) then
return BAD_BIND
end
local ended = endLease(lease, 'revoked')
remember(request, ended)
return { now, ended }`,
  },
  see_server: {
    name: 'mooring_see_server_c9a93b083e78',
    keys: 1,
    lua: `local function readNow()
local time = redis.call('TIME')
return time[1] * 1000 + math.floor(time[2] / 1000)
end
local now = readNow()
local SERVERS = unpack(KEYS)
redis.call('HSETNX', SERVERS, ARGV[1], string.format('%.0f', now))
return now - tonumber(redis.call('HGET', SERVERS, ARGV[1]))`,
  },
  set_aside: {
    name: 'mooring_set_aside_93842f32b26f',
    keys: 15,
    lua: `local UNDECLARED = -1
local QUARANTINED = -16
local function readNow()
local time = redis.call('TIME')
return time[1] * 1000 + math.floor(time[2] / 1000)
end
local now = readNow()
local META, LEASES, SESSIONS, INDEXES, EXPIRIES, COOLING, FORMER, ANSWERS, ANSWERED, STREAM, HINTS, REPORT, TENANTS, CHANNEL, OLDER =
unpack(KEYS)
local SCHEMA = '2'
local function whole(number)
return string.format('%.0f', number)
end
local schema = redis.call('HGET', META, 'schema')
if schema and schema ~= SCHEMA then
error({ err = 'MOORINGSCHEMA ' .. schema })
end
local WORD = 4294967296
local ROUNDS = 4
local function times(a, b)
local high = math.floor(a / 65536)
local low = a % 65536
return ((high * b) % 65536 * 65536 + low * b) % WORD
end
local function mix(value)
value = bit.bxor(value, bit.rshift(value, 16)) % WORD
value = times(value, 2246822507)
value = bit.bxor(value, bit.rshift(value, 13)) % WORD
value = times(value, 3266489909)
return bit.bxor(value, bit.rshift(value, 16)) % WORD
end
local function walk(value, width, key, tweak, from, to, step)
local leftWidth = math.floor(width / 2)
local leftSize = 2 ^ leftWidth
local rightSize = 2 ^ (width - leftWidth)
local left = math.floor(value / rightSize)
local right = value % rightSize
for round = from, to, step do
local word = (key[(round - 1) % #key + 1] + times(round + tweak * ROUNDS, 2654435769)) % WORD
if round % 2 == 1 then
left = bit.bxor(left, mix((right + word) % WORD) % leftSize) % WORD
else
right = bit.bxor(right, mix((left + word) % WORD) % rightSize) % WORD
end
end
return left * rightSize + right
end
local function permute(value, width, key, tweak)
return walk(value, width, key, tweak, 1, ROUNDS, 1)
end
local function placeOfSlot(plan, slot)
slot = tonumber(slot)
for _, segment in ipairs(plan.segments) do
local number = slot - segment.first
if number >= 0 and number < segment.slots then
local ordinal = number % segment.addresses
for at, prefix in ipairs(segment.prefixes) do
if ordinal < prefix.addresses then
return { segment = segment, number = number, prefix = prefix, ordinal = ordinal, tweak = segment.tweak + at }
end
ordinal = ordinal - prefix.addresses
end
end
end
end
local function hostOf(plan, place)
return permute(place.ordinal, place.prefix.width, plan.key, place.tweak)
end
local function closedRange(plan, place)
if not place.prefix.closed then
return nil
end
local host = hostOf(plan, place)
for _, range in ipairs(place.prefix.closed) do
if host >= range.from and host < range.from + range.count then
return range
end
end
end
local function isOpen(plan, slot)
local place = placeOfSlot(plan, slot)
return place ~= nil and closedRange(plan, place) == nil
end
local ASIDE_MS = 1e15
local function formerSlots(device)
local slots = {}
for slot in string.gmatch(redis.call('HGET', FORMER, 'd:' .. device) or '', '%d+') do
slots[#slots + 1] = slot
end
return slots
end
local function forgetFormer(device, slot)
local left = {}
for _, other in ipairs(formerSlots(device)) do
if other ~= slot then
left[#left + 1] = other
end
end
if #left > 0 then
redis.call('HSET', FORMER, 'd:' .. device, table.concat(left, ','))
else
redis.call('HDEL', FORMER, 'd:' .. device)
end
end
local function forgetSlot(slot)
local device = redis.call('HGET', FORMER, 's:' .. slot)
if device then
forgetFormer(device, slot)
redis.call('HDEL', FORMER, 's:' .. slot)
end
end
local function readServer()
return string.match(redis.call('INFO', 'replication'), 'master_replid:(%x+)')
end
local server = readServer()
local function forgetReport()
redis.call(
'HDEL', META, 'reportEpoch', 'reportRelay', 'reportBoot', 'reportCounter', 'reportUntilMs',
'reportPlan', 'reportAtMs', 'reportIsTold', 'reportAs', 'restoring', 'restMs', 'restTo', 'isInDoubt', 'isRestored'
)
redis.call('UNLINK', REPORT)
end
local function beginQuarantine(ms)
redis.call('HSETNX', META, 'wholeCounter', redis.call('HGET', META, 'counter') or 0)
redis.call('HSET', META, 'server', server, 'quarantineUntilMs', whole(now + ms))
redis.call('HDEL', META, 'isRaised')
forgetReport()
end
local function quarantined()
local of = redis.call('HMGET', META, 'server', 'quarantineUntilMs', 'quarantineMs')
if of[1] and of[1] ~= server then
beginQuarantine(tonumber(of[3]))
return true
end
return of[2] ~= false
end
if quarantined() then
return QUARANTINED
end
local stored = redis.call('HGET', META, 'plan')
if not stored then
return UNDECLARED
end
local plan = cjson.decode(stored)
local frontier = tonumber(redis.call('HGET', META, 'frontier'))
local last = math.min(frontier + tonumber(ARGV[2]), plan.slots)
while frontier < last and not isOpen(plan, frontier) do
if placeOfSlot(plan, frontier) then
redis.call('ZADD', COOLING, whole(ASIDE_MS), whole(frontier))
end
frontier = frontier + 1
end
redis.call('HSET', META, 'frontier', whole(frontier))
local cooling = 0
local found = redis.call('ZSCAN', COOLING, ARGV[1], 'COUNT', ARGV[2])
for at = 1, #found[2], 2 do
local slot, coolMs = found[2][at], tonumber(found[2][at + 1])
local place = placeOfSlot(plan, slot)
if not place then
redis.call('ZREM', COOLING, slot)
forgetSlot(slot)
elseif closedRange(plan, place) then
local dueMs = coolMs % ASIDE_MS
if coolMs < ASIDE_MS then
redis.call('ZADD', COOLING, whole(coolMs + ASIDE_MS), slot)
end
cooling = cooling + (dueMs > now and 1 or 0)
elseif coolMs >= ASIDE_MS then
redis.call('ZADD', COOLING, whole(coolMs % ASIDE_MS), slot)
end
end
local isOver = found[1] == '0' and (frontier >= plan.slots or isOpen(plan, frontier))
return { found[1], isOver and 1 or 0, cooling }`,
  },
  snapshot: {
    name: 'mooring_snapshot_9e78dcf10242',
    keys: 15,
    lua: `local UNDECLARED = -1
local QUARANTINED = -16
local function readNow()
local time = redis.call('TIME')
return time[1] * 1000 + math.floor(time[2] / 1000)
end
local now = readNow()
local META, LEASES, SESSIONS, INDEXES, EXPIRIES, COOLING, FORMER, ANSWERS, ANSWERED, STREAM, HINTS, REPORT, TENANTS, CHANNEL, OLDER =
unpack(KEYS)
local SCHEMA = '2'
local function whole(number)
return string.format('%.0f', number)
end
local schema = redis.call('HGET', META, 'schema')
if schema and schema ~= SCHEMA then
error({ err = 'MOORINGSCHEMA ' .. schema })
end
local function readServer()
return string.match(redis.call('INFO', 'replication'), 'master_replid:(%x+)')
end
local server = readServer()
local function forgetReport()
redis.call(
'HDEL', META, 'reportEpoch', 'reportRelay', 'reportBoot', 'reportCounter', 'reportUntilMs',
'reportPlan', 'reportAtMs', 'reportIsTold', 'reportAs', 'restoring', 'restMs', 'restTo', 'isInDoubt', 'isRestored'
)
redis.call('UNLINK', REPORT)
end
local function beginQuarantine(ms)
redis.call('HSETNX', META, 'wholeCounter', redis.call('HGET', META, 'counter') or 0)
redis.call('HSET', META, 'server', server, 'quarantineUntilMs', whole(now + ms))
redis.call('HDEL', META, 'isRaised')
forgetReport()
end
local function quarantined()
local of = redis.call('HMGET', META, 'server', 'quarantineUntilMs', 'quarantineMs')
if of[1] and of[1] ~= server then
beginQuarantine(tonumber(of[3]))
return true
end
return of[2] ~= false
end
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
}`,
  },
  stretch: {
    name: 'mooring_stretch_14a551037c2a',
    keys: 15,
    lua: `#!lua flags=allow-oom
local STALE_EPOCH = -3
local QUARANTINED = -16
local function readNow()
local time = redis.call('TIME')
return time[1] * 1000 + math.floor(time[2] / 1000)
end
local now = readNow()
local META, LEASES, SESSIONS, INDEXES, EXPIRIES, COOLING, FORMER, ANSWERS, ANSWERED, STREAM, HINTS, REPORT, TENANTS, CHANNEL, OLDER =
unpack(KEYS)
local SCHEMA = '2'
local function whole(number)
return string.format('%.0f', number)
end
local schema = redis.call('HGET', META, 'schema')
if schema and schema ~= SCHEMA then
error({ err = 'MOORINGSCHEMA ' .. schema })
end
local MOST_EVENTS = 512
local LEAST_EVENTS = 64
local function takeFence()
local counter = redis.call('HINCRBY', META, 'counter', 1)
return redis.call('HGET', META, 'epoch') .. '-' .. whole(counter)
end
local function publish(fence, event)
local length = math.max(LEAST_EVENTS, math.min(MOST_EVENTS, redis.call('HLEN', LEASES)))
redis.call('XADD', STREAM, 'MAXLEN', '~', length, fence, 'event', event)
redis.call('SPUBLISH', CHANNEL, fence)
end
local LEASE_WORDS = '^' .. string.rep('(%S+) ', 10) .. '(%S+)$'
local SESSION_WORDS = '^' .. string.rep('(%S+) ', 5) .. '(%S+)$'
local ANCHOR_NAME = string.match(META, '{a:(.*)}')
local function nameOf(id)
return string.sub(id, #ANCHOR_NAME + 2)
end
local function encodeLease(lease)
local pending = lease.state == 'pending' and whole(lease.pendingUntilMs) or '-'
return table.concat({
lease.device, lease.slot, lease.address, lease.ports, lease.spis, lease.ikeSpis, lease.remote, pending,
whole(lease.expiresAtMs), lease.fence, whole(lease.bindId),
}, ' ')
end
local function decodeLease(name, record)
local device, slot, address, ports, spis, ikeSpis, remote, pending, expires, fence, bindId =
string.match(record, LEASE_WORDS)
return {
id = ANCHOR_NAME .. '.' .. name,
device = device,
slot = slot,
address = address,
ports = ports,
spis = spis,
ikeSpis = ikeSpis,
remote = remote,
state = pending == '-' and 'active' or 'pending',
pendingUntilMs = tonumber(pending),
expiresAtMs = tonumber(expires),
fence = fence,
bindId = tonumber(bindId),
}
end
local function decodeSession(device, record)
local index, id, thumbprint, salt, replaces, named = string.match(record, SESSION_WORDS)
local leases = {}
for name in string.gmatch(named, '[^,]+') do
leases[#leases + 1] = name
end
return {
device = device,
index = index,
id = id,
thumbprint = thumbprint,
salt = salt,
replaces = replaces,
leases = leases,
}
end
local WORD = 4294967296
local ROUNDS = 4
local function times(a, b)
local high = math.floor(a / 65536)
local low = a % 65536
return ((high * b) % 65536 * 65536 + low * b) % WORD
end
local function mix(value)
value = bit.bxor(value, bit.rshift(value, 16)) % WORD
value = times(value, 2246822507)
value = bit.bxor(value, bit.rshift(value, 13)) % WORD
value = times(value, 3266489909)
return bit.bxor(value, bit.rshift(value, 16)) % WORD
end
local function walk(value, width, key, tweak, from, to, step)
local leftWidth = math.floor(width / 2)
local leftSize = 2 ^ leftWidth
local rightSize = 2 ^ (width - leftWidth)
local left = math.floor(value / rightSize)
local right = value % rightSize
for round = from, to, step do
local word = (key[(round - 1) % #key + 1] + times(round + tweak * ROUNDS, 2654435769)) % WORD
if round % 2 == 1 then
left = bit.bxor(left, mix((right + word) % WORD) % leftSize) % WORD
else
right = bit.bxor(right, mix((left + word) % WORD) % rightSize) % WORD
end
end
return left * rightSize + right
end
local function permute(value, width, key, tweak)
return walk(value, width, key, tweak, 1, ROUNDS, 1)
end
local function placeOfSlot(plan, slot)
slot = tonumber(slot)
for _, segment in ipairs(plan.segments) do
local number = slot - segment.first
if number >= 0 and number < segment.slots then
local ordinal = number % segment.addresses
for at, prefix in ipairs(segment.prefixes) do
if ordinal < prefix.addresses then
return { segment = segment, number = number, prefix = prefix, ordinal = ordinal, tweak = segment.tweak + at }
end
ordinal = ordinal - prefix.addresses
end
end
end
end
local function hostOf(plan, place)
return permute(place.ordinal, place.prefix.width, plan.key, place.tweak)
end
local function closedRange(plan, place)
if not place.prefix.closed then
return nil
end
local host = hostOf(plan, place)
for _, range in ipairs(place.prefix.closed) do
if host >= range.from and host < range.from + range.count then
return range
end
end
end
local function readServer()
return string.match(redis.call('INFO', 'replication'), 'master_replid:(%x+)')
end
local server = readServer()
local function forgetReport()
redis.call(
'HDEL', META, 'reportEpoch', 'reportRelay', 'reportBoot', 'reportCounter', 'reportUntilMs',
'reportPlan', 'reportAtMs', 'reportIsTold', 'reportAs', 'restoring', 'restMs', 'restTo', 'isInDoubt', 'isRestored'
)
redis.call('UNLINK', REPORT)
end
local function beginQuarantine(ms)
redis.call('HSETNX', META, 'wholeCounter', redis.call('HGET', META, 'counter') or 0)
redis.call('HSET', META, 'server', server, 'quarantineUntilMs', whole(now + ms))
redis.call('HDEL', META, 'isRaised')
forgetReport()
end
local function quarantined()
local of = redis.call('HMGET', META, 'server', 'quarantineUntilMs', 'quarantineMs')
if of[1] and of[1] ~= server then
beginQuarantine(tonumber(of[3]))
return true
end
return of[2] ~= false
end
local function leaseOf(id)
local name = nameOf(id)
local record = redis.call('HGET', LEASES, name)
return record and decodeLease(name, record)
end
local function save(lease)
redis.call('HSET', LEASES, nameOf(lease.id), encodeLease(lease))
end
local function sessionOf(device)
local record = redis.call('HGET', SESSIONS, device)
return record and decodeSession(device, record)
end
local function announce(kind, lease, session)
lease.fence = takeFence()
publish(lease.fence, table.concat({ kind, nameOf(lease.id), session.id, encodeLease(lease) }, ' '))
end
local function closedBy(lease, expiresAtMs)
local drains, plan = unpack(redis.call('HMGET', META, 'drains', 'plan'))
if drains ~= '1' then
return expiresAtMs
end
plan = cjson.decode(plan)
local place = placeOfSlot(plan, lease.slot)
local range = place and closedRange(plan, place)
return range and math.min(expiresAtMs, range.untilMs) or expiresAtMs
end
if quarantined() then
return QUARANTINED
end
if redis.call('HGET', META, 'epoch') ~= ARGV[1] or redis.call('HEXISTS', META, 'owner') == 0 then
return STALE_EPOCH
end
for at = 2, #ARGV, 2 do
local lease = leaseOf(ARGV[at])
local endsMs = lease and closedBy(lease, now + ARGV[at + 1])
if lease and lease.state == 'active' and lease.expiresAtMs < endsMs then
lease.expiresAtMs = endsMs
announce('extended', lease, sessionOf(lease.device))
save(lease)
redis.call('ZADD', EXPIRIES, whole(endsMs), nameOf(lease.id))
end
end
return now`,
  },
  sweep: {
    name: 'mooring_sweep_374af5c331a4',
    keys: 15,
    lua: `#!lua flags=allow-oom
local STALE_EPOCH = -3
local WITHDRAWN = -9
local REQUEST_ENDED = -11
local QUARANTINED = -16
local function readNow()
local time = redis.call('TIME')
return time[1] * 1000 + math.floor(time[2] / 1000)
end
local now = readNow()
local META, LEASES, SESSIONS, INDEXES, EXPIRIES, COOLING, FORMER, ANSWERS, ANSWERED, STREAM, HINTS, REPORT, TENANTS, CHANNEL, OLDER =
unpack(KEYS)
local SCHEMA = '2'
local function whole(number)
return string.format('%.0f', number)
end
local schema = redis.call('HGET', META, 'schema')
if schema and schema ~= SCHEMA then
error({ err = 'MOORINGSCHEMA ' .. schema })
end
local MOST_EVENTS = 512
local LEAST_EVENTS = 64
local function takeFence()
local counter = redis.call('HINCRBY', META, 'counter', 1)
return redis.call('HGET', META, 'epoch') .. '-' .. whole(counter)
end
local function publish(fence, event)
local length = math.max(LEAST_EVENTS, math.min(MOST_EVENTS, redis.call('HLEN', LEASES)))
redis.call('XADD', STREAM, 'MAXLEN', '~', length, fence, 'event', event)
redis.call('SPUBLISH', CHANNEL, fence)
end
local LEASE_WORDS = '^' .. string.rep('(%S+) ', 10) .. '(%S+)$'
local SESSION_WORDS = '^' .. string.rep('(%S+) ', 5) .. '(%S+)$'
local ANCHOR_NAME = string.match(META, '{a:(.*)}')
local function nameOf(id)
return string.sub(id, #ANCHOR_NAME + 2)
end
local function encodeLease(lease)
local pending = lease.state == 'pending' and whole(lease.pendingUntilMs) or '-'
return table.concat({
lease.device, lease.slot, lease.address, lease.ports, lease.spis, lease.ikeSpis, lease.remote, pending,
whole(lease.expiresAtMs), lease.fence, whole(lease.bindId),
}, ' ')
end
local function decodeLease(name, record)
local device, slot, address, ports, spis, ikeSpis, remote, pending, expires, fence, bindId =
string.match(record, LEASE_WORDS)
return {
id = ANCHOR_NAME .. '.' .. name,
device = device,
slot = slot,
address = address,
ports = ports,
spis = spis,
ikeSpis = ikeSpis,
remote = remote,
state = pending == '-' and 'active' or 'pending',
pendingUntilMs = tonumber(pending),
expiresAtMs = tonumber(expires),
fence = fence,
bindId = tonumber(bindId),
}
end
local function encodeSession(session)
return table.concat({
session.index, session.id, session.thumbprint, session.salt, session.replaces, table.concat(session.leases, ','),
}, ' ')
end
local function decodeSession(device, record)
local index, id, thumbprint, salt, replaces, named = string.match(record, SESSION_WORDS)
local leases = {}
for name in string.gmatch(named, '[^,]+') do
leases[#leases + 1] = name
end
return {
device = device,
index = index,
id = id,
thumbprint = thumbprint,
salt = salt,
replaces = replaces,
leases = leases,
}
end
local KEEP_MS = 3600000
local KEEP_COUNT = 16384
local BY_TIME = '.0'
local function forgetOldest(count)
local oldest = redis.call('ZPOPMIN', ANSWERED, count)
for at = 1, #oldest, 2 do
redis.call('HDEL', ANSWERS, oldest[at])
end
end
local function remember(request, answer)
redis.call('HSET', ANSWERS, request, answer)
redis.call('ZADD', ANSWERED, whole(now + KEEP_MS), request)
local surplus = redis.call('ZCARD', ANSWERED) - KEEP_COUNT
if surplus > 0 then
forgetOldest(surplus)
redis.call('HDEL', META, 'missed')
end
for _ = 1, 2 do
local first = redis.call('ZRANGE', ANSWERED, 0, 0, 'WITHSCORES')
if first[2] == nil or tonumber(first[2]) > now then
break
end
forgetOldest(1)
end
end
local function placeOfSlot(plan, slot)
slot = tonumber(slot)
for _, segment in ipairs(plan.segments) do
local number = slot - segment.first
if number >= 0 and number < segment.slots then
local ordinal = number % segment.addresses
for at, prefix in ipairs(segment.prefixes) do
if ordinal < prefix.addresses then
return { segment = segment, number = number, prefix = prefix, ordinal = ordinal, tweak = segment.tweak + at }
end
ordinal = ordinal - prefix.addresses
end
end
end
end
local function formerSlots(device)
local slots = {}
for slot in string.gmatch(redis.call('HGET', FORMER, 'd:' .. device) or '', '%d+') do
slots[#slots + 1] = slot
end
return slots
end
local function coolSlot(slot, device)
local coolingMs = tonumber(redis.call('HGET', META, 'coolingMs'))
redis.call('ZADD', COOLING, whole(now + coolingMs), slot)
redis.call('HSET', FORMER, 's:' .. slot, device)
local former = formerSlots(device)
former[#former + 1] = slot
redis.call('HSET', FORMER, 'd:' .. device, table.concat(former, ','))
end
local function freeSlots()
local of = redis.call('HMGET', META, 'capacity', 'frontier', 'slots')
local unleased = tonumber(of[3] or of[1]) - tonumber(of[2]) + redis.call('ZCOUNT', COOLING, '-inf', whole(now))
return math.min(tonumber(of[1]), unleased)
end
local function portsIn(text)
local first, width = string.match(text, '^(%d+)/(%d+)$')
return tonumber(first), first and 2 ^ tonumber(width)
end
local function slotsOfPorts(plan, slot, first, count)
local place = placeOfSlot(plan, slot)
if not place then
return nil
end
local segment, slots = place.segment, {}
local ordinal = place.number % segment.addresses
for block = first / plan.portBlock, (first + count) / plan.portBlock - 1 do
local row = block - plan.firstPortBlock
local number = row * segment.addresses + ordinal
if row < 0 or number >= segment.slots then
return nil
end
slots[#slots + 1] = whole(segment.first + number)
end
return slots
end
local function slotsIn(plan, lease)
local first, count = portsIn(lease.ports)
local isDoubled = first and count > plan.portBlock
return isDoubled and slotsOfPorts(plan, lease.slot, first, count) or { lease.slot }
end
local function countExtraSlots(more)
if more ~= 0 then
redis.call('HINCRBY', META, 'extraSlots', more)
end
end
local function slotsOf(lease)
if (redis.call('HGET', META, 'extraSlots') or '0') == '0' then
return { lease.slot }
end
return slotsIn(cjson.decode(redis.call('HGET', META, 'plan')), lease)
end
local function coolSlots(slots, device)
for _, slot in ipairs(slots) do
coolSlot(slot, device)
end
countExtraSlots(1 - #slots)
end
local function readServer()
return string.match(redis.call('INFO', 'replication'), 'master_replid:(%x+)')
end
local server = readServer()
local function forgetReport()
redis.call(
'HDEL', META, 'reportEpoch', 'reportRelay', 'reportBoot', 'reportCounter', 'reportUntilMs',
'reportPlan', 'reportAtMs', 'reportIsTold', 'reportAs', 'restoring', 'restMs', 'restTo', 'isInDoubt', 'isRestored'
)
redis.call('UNLINK', REPORT)
end
local function beginQuarantine(ms)
redis.call('HSETNX', META, 'wholeCounter', redis.call('HGET', META, 'counter') or 0)
redis.call('HSET', META, 'server', server, 'quarantineUntilMs', whole(now + ms))
redis.call('HDEL', META, 'isRaised')
forgetReport()
end
local function quarantined()
local of = redis.call('HMGET', META, 'server', 'quarantineUntilMs', 'quarantineMs')
if of[1] and of[1] ~= server then
beginQuarantine(tonumber(of[3]))
return true
end
return of[2] ~= false
end
local function tenantOf(device)
return string.match(device, '^[^/]*')
end
local function allowanceOf(tenant)
local used, allowed, number, epoch =
string.match(redis.call('HGET', TENANTS, tenant) or '0 0 0 0', '^(%d+) (%d+) (%d+) (%d+)$')
local isCurrent = epoch == redis.call('HGET', META, 'epoch')
return {
used = tonumber(used),
allowed = isCurrent and tonumber(allowed) or 0,
number = isCurrent and number or '0',
}
end
local function saveAllowance(tenant, allowance)
local epoch = redis.call('HGET', META, 'epoch')
local words = { whole(allowance.used), whole(allowance.allowed), allowance.number, epoch }
redis.call('HSET', TENANTS, tenant, table.concat(words, ' '))
end
local function countLease(device, more)
if redis.call('HEXISTS', META, 'maxLeasesPerTenant') == 0 then
return
end
local tenant = tenantOf(device)
local allowance = allowanceOf(tenant)
allowance.used = allowance.used + more
if allowance.used > 0 then
saveAllowance(tenant, allowance)
else
redis.call('HDEL', TENANTS, tenant)
end
end
local function sessionOf(device)
local record = redis.call('HGET', SESSIONS, device)
return record and decodeSession(device, record)
end
local function saveSession(session)
redis.call('HSET', SESSIONS, session.device, encodeSession(session))
end
local function announce(kind, lease, session)
lease.fence = takeFence()
publish(lease.fence, table.concat({ kind, nameOf(lease.id), session.id, encodeLease(lease) }, ' '))
end
local function shown(lease, session)
return table.concat({ lease.id, redis.call('HGET', META, 'pool'), session.id, encodeLease(lease) }, ' ')
end
local function forgetSession(session)
redis.call('HDEL', SESSIONS, session.device)
redis.call('SETBIT', INDEXES, session.index, 0)
redis.call('HDEL', HINTS, session.id)
end
local function leaveSession(session, lease)
local name = nameOf(lease.id)
local left = {}
for _, other in ipairs(session.leases) do
if other ~= name then
left[#left + 1] = other
end
end
session.leases = left
if #left > 0 then
saveSession(session)
else
forgetSession(session)
end
end
local function endLease(lease, reason)
local session = sessionOf(lease.device)
announce('ended ' .. reason, lease, session)
redis.call('HDEL', LEASES, nameOf(lease.id))
redis.call('ZREM', EXPIRIES, nameOf(lease.id))
countLease(lease.device, -1)
coolSlots(slotsOf(lease), lease.device)
leaveSession(session, lease)
remember(lease.id, 'C' .. (reason == 'withdrawn' and WITHDRAWN or REQUEST_ENDED) .. (reason == 'expired' and BY_TIME or ''))
return shown(lease, session)
end
if quarantined() then
return QUARANTINED
end
if redis.call('HGET', META, 'epoch') ~= ARGV[1] or redis.call('HEXISTS', META, 'owner') == 0 then
return STALE_EPOCH
end
local latestMs = math.min(now, tonumber(ARGV[3]) or now)
local due = redis.call('ZRANGEBYSCORE', EXPIRIES, '-inf', whole(latestMs), 'LIMIT', 0, ARGV[2] + 1)
local more = #due > tonumber(ARGV[2])
local answer = { now, 0, more and 1 or 0 }
for at = 1, math.min(#due, tonumber(ARGV[2])) do
local lease = decodeLease(due[at], redis.call('HGET', LEASES, due[at]))
local reason = lease.state == 'pending' and 'withdrawn' or 'expired'
answer[#answer + 1] = endLease(lease, reason)
answer[#answer + 1] = reason
end
answer[2] = freeSlots()
return answer`,
  },
  take_back: {
    name: 'mooring_take_back_1e842529e7ff',
    keys: 2,
    lua: `local INDEX_BEHIND = -18
local function readNow()
local time = redis.call('TIME')
return time[1] * 1000 + math.floor(time[2] / 1000)
end
local now = readNow()
local function readServer()
return string.match(redis.call('INFO', 'replication'), 'master_replid:(%x+)')
end
local server = readServer()
local DEALT, ASKED = unpack(KEYS)
local KEEP_MS = 604800000
local function whole(number)
return string.format('%.0f', number)
end
local function dealtTo(anchor)
local dealt, number = string.match(redis.call('HGET', DEALT, anchor) or '0 0', '^(%d+) (%d+)$')
return tonumber(dealt), tonumber(number)
end
local function note(anchor, dealt, number)
redis.call('HINCRBY', DEALT, ':total', whole(dealt - dealtTo(anchor)))
if dealt > 0 then
redis.call('HSET', DEALT, anchor, whole(dealt) .. ' ' .. whole(number))
redis.call('ZADD', ASKED, whole(now), anchor)
else
redis.call('HDEL', DEALT, anchor)
redis.call('ZREM', ASKED, anchor)
end
end
local function keep()
redis.call('PEXPIRE', DEALT, KEEP_MS)
redis.call('PEXPIRE', ASKED, KEEP_MS)
end
if string.match(ARGV[1], '^[^/]*') ~= server then
return INDEX_BEHIND
end
for at = 3, #ARGV, 3 do
local anchor, number = ARGV[at], tonumber(ARGV[at + 2])
if number > select(2, dealtTo(anchor)) then
note(anchor, tonumber(ARGV[at + 1]), number)
end
end
if ARGV[2] == '1' then
redis.call('HSET', DEALT, ':whole', ARGV[1])
end
keep()
return 'OK'`,
  },
  take_space: {
    name: 'mooring_take_space_096fb5435987',
    keys: 2,
    lua: `local SPANS, ANCHORS = unpack(KEYS)
local anchor = ARGV[1]
local function each(json, act)
for _, span in ipairs(json and cjson.decode(json) or {}) do
act(span .. ':' .. anchor)
end
end
local function remove(member)
redis.call('ZREM', SPANS, member)
end
local function add(member)
redis.call('ZADD', SPANS, 0, member)
end
local former = redis.call('HGET', ANCHORS, anchor)
if former == ARGV[2] then
return ''
end
each(former, remove)
local clash = ''
for _, span in ipairs(cjson.decode(ARGV[2])) do
local family, first, last = string.match(span, '^(%d):(%x+):(%x+)$')
local before = redis.call('ZREVRANGEBYLEX', SPANS, '[' .. family .. ':' .. last .. ';', '[' .. family .. ':', 'LIMIT', 0, 1)[1]
if before and string.match(before, '^%d:%x+:(%x+)') >= first then
clash = before
break
end
end
if clash ~= '' then
each(former, add)
return clash
end
each(ARGV[2], add)
if ARGV[2] == '[]' then
redis.call('HDEL', ANCHORS, anchor)
else
redis.call('HSET', ANCHORS, anchor, ARGV[2])
end
return ''`,
  },
  tell: {
    name: 'mooring_tell_76c4e982a035',
    keys: 15,
    lua: `#!lua flags=allow-oom
local QUARANTINED = -16
local function readNow()
local time = redis.call('TIME')
return time[1] * 1000 + math.floor(time[2] / 1000)
end
local now = readNow()
local META, LEASES, SESSIONS, INDEXES, EXPIRIES, COOLING, FORMER, ANSWERS, ANSWERED, STREAM, HINTS, REPORT, TENANTS, CHANNEL, OLDER =
unpack(KEYS)
local SCHEMA = '2'
local function whole(number)
return string.format('%.0f', number)
end
local schema = redis.call('HGET', META, 'schema')
if schema and schema ~= SCHEMA then
error({ err = 'MOORINGSCHEMA ' .. schema })
end
local function readServer()
return string.match(redis.call('INFO', 'replication'), 'master_replid:(%x+)')
end
local server = readServer()
local function forgetReport()
redis.call(
'HDEL', META, 'reportEpoch', 'reportRelay', 'reportBoot', 'reportCounter', 'reportUntilMs',
'reportPlan', 'reportAtMs', 'reportIsTold', 'reportAs', 'restoring', 'restMs', 'restTo', 'isInDoubt', 'isRestored'
)
redis.call('UNLINK', REPORT)
end
local function beginQuarantine(ms)
redis.call('HSETNX', META, 'wholeCounter', redis.call('HGET', META, 'counter') or 0)
redis.call('HSET', META, 'server', server, 'quarantineUntilMs', whole(now + ms))
redis.call('HDEL', META, 'isRaised')
forgetReport()
end
local function quarantined()
local of = redis.call('HMGET', META, 'server', 'quarantineUntilMs', 'quarantineMs')
if of[1] and of[1] ~= server then
beginQuarantine(tonumber(of[3]))
return true
end
return of[2] ~= false
end
if not quarantined() or redis.call('HEXISTS', META, 'restoring') == 1 then
return 'OK'
end
local of = redis.call('HMGET', META, 'reportRelay', 'reportBoot', 'reportEpoch', 'reportCounter')
for at = 1, 4 do
if of[at] ~= ARGV[at] then
return QUARANTINED
end
end
if #ARGV > 5 then
redis.call('HSET', REPORT, unpack(ARGV, 6))
end
if ARGV[5] == '1' then
redis.call('HSET', META, 'reportIsTold', '1')
end
return 'OK'`,
  },
  transfer: {
    name: 'mooring_transfer_939df33b035c',
    keys: 15,
    lua: `#!lua flags=allow-oom
local UNDECLARED = -1
local STALE_EPOCH = -3
local QUARANTINED = -16
local function readNow()
local time = redis.call('TIME')
return time[1] * 1000 + math.floor(time[2] / 1000)
end
local now = readNow()
local META, LEASES, SESSIONS, INDEXES, EXPIRIES, COOLING, FORMER, ANSWERS, ANSWERED, STREAM, HINTS, REPORT, TENANTS, CHANNEL, OLDER =
unpack(KEYS)
local SCHEMA = '2'
local function whole(number)
return string.format('%.0f', number)
end
local schema = redis.call('HGET', META, 'schema')
if schema and schema ~= SCHEMA then
error({ err = 'MOORINGSCHEMA ' .. schema })
end
local MOST_EVENTS = 512
local LEAST_EVENTS = 64
local function takeFence()
local counter = redis.call('HINCRBY', META, 'counter', 1)
return redis.call('HGET', META, 'epoch') .. '-' .. whole(counter)
end
local function publish(fence, event)
local length = math.max(LEAST_EVENTS, math.min(MOST_EVENTS, redis.call('HLEN', LEASES)))
redis.call('XADD', STREAM, 'MAXLEN', '~', length, fence, 'event', event)
redis.call('SPUBLISH', CHANNEL, fence)
end
local function readServer()
return string.match(redis.call('INFO', 'replication'), 'master_replid:(%x+)')
end
local server = readServer()
local function forgetReport()
redis.call(
'HDEL', META, 'reportEpoch', 'reportRelay', 'reportBoot', 'reportCounter', 'reportUntilMs',
'reportPlan', 'reportAtMs', 'reportIsTold', 'reportAs', 'restoring', 'restMs', 'restTo', 'isInDoubt', 'isRestored'
)
redis.call('UNLINK', REPORT)
end
local function beginQuarantine(ms)
redis.call('HSETNX', META, 'wholeCounter', redis.call('HGET', META, 'counter') or 0)
redis.call('HSET', META, 'server', server, 'quarantineUntilMs', whole(now + ms))
redis.call('HDEL', META, 'isRaised')
forgetReport()
end
local function quarantined()
local of = redis.call('HMGET', META, 'server', 'quarantineUntilMs', 'quarantineMs')
if of[1] and of[1] ~= server then
beginQuarantine(tonumber(of[3]))
return true
end
return of[2] ~= false
end
local function isBehind(epoch)
local of = redis.call('HMGET', META, 'epoch', 'quarantineMs')
if not of[1] or tonumber(of[1]) >= tonumber(epoch or 0) then
return false
end
beginQuarantine(tonumber(of[2]))
return true
end
local function owner()
local of = redis.call('HMGET', META, 'owner', 'boot', 'epoch', 'untilMs', 'home', 'standby', 'standbyBoot')
return {
relay = of[1],
boot = of[2],
epoch = of[3],
untilMs = tonumber(of[4] or 0),
home = of[5],
standby = of[6],
standbyBoot = of[7],
}
end
local function holdUntil(untilMs)
redis.call('HSET', META, 'untilMs', whole(untilMs))
end
local function own(relay, boot, ttlMs)
local epoch = redis.call('HINCRBY', META, 'epoch', 1)
local fence = takeFence()
publish(fence, 'owned ' .. relay)
redis.call('HSET', META, 'owner', relay, 'boot', boot)
redis.call('HDEL', META, 'standby', 'standbyBoot')
holdUntil(now + ttlMs)
return whole(epoch)
end
if quarantined() or isBehind(ARGV[2]) then
return QUARANTINED
end
local current = owner()
if not current.home then
return UNDECLARED
end
if current.relay == ARGV[3] and current.boot == ARGV[4] and tonumber(current.epoch) == ARGV[2] + 1 then
return current.epoch
end
if current.relay ~= ARGV[1] or current.epoch ~= ARGV[2] then
return STALE_EPOCH
end
local epoch = own(ARGV[3], ARGV[4], ARGV[5])
redis.call('HSET', META, 'standby', ARGV[1], 'standbyBoot', current.boot)
return epoch`,
  },
  withdraw: {
    name: 'mooring_withdraw_bbb3de1b39a2',
    keys: 15,
    lua: `#!lua flags=allow-oom
local WITHDRAWN = -9
local NOT_PENDING = -10
local REQUEST_ENDED = -11
local QUARANTINED = -16
local function readNow()
local time = redis.call('TIME')
return time[1] * 1000 + math.floor(time[2] / 1000)
end
local now = readNow()
local META, LEASES, SESSIONS, INDEXES, EXPIRIES, COOLING, FORMER, ANSWERS, ANSWERED, STREAM, HINTS, REPORT, TENANTS, CHANNEL, OLDER =
unpack(KEYS)
local SCHEMA = '2'
local function whole(number)
return string.format('%.0f', number)
end
local schema = redis.call('HGET', META, 'schema')
if schema and schema ~= SCHEMA then
error({ err = 'MOORINGSCHEMA ' .. schema })
end
local MOST_EVENTS = 512
local LEAST_EVENTS = 64
local function takeFence()
local counter = redis.call('HINCRBY', META, 'counter', 1)
return redis.call('HGET', META, 'epoch') .. '-' .. whole(counter)
end
local function publish(fence, event)
local length = math.max(LEAST_EVENTS, math.min(MOST_EVENTS, redis.call('HLEN', LEASES)))
redis.call('XADD', STREAM, 'MAXLEN', '~', length, fence, 'event', event)
redis.call('SPUBLISH', CHANNEL, fence)
end
local LEASE_WORDS = '^' .. string.rep('(%S+) ', 10) .. '(%S+)$'
local SESSION_WORDS = '^' .. string.rep('(%S+) ', 5) .. '(%S+)$'
local ANCHOR_NAME = string.match(META, '{a:(.*)}')
local function nameOf(id)
return string.sub(id, #ANCHOR_NAME + 2)
end
local function encodeLease(lease)
local pending = lease.state == 'pending' and whole(lease.pendingUntilMs) or '-'
return table.concat({
lease.device, lease.slot, lease.address, lease.ports, lease.spis, lease.ikeSpis, lease.remote, pending,
whole(lease.expiresAtMs), lease.fence, whole(lease.bindId),
}, ' ')
end
local function decodeLease(name, record)
local device, slot, address, ports, spis, ikeSpis, remote, pending, expires, fence, bindId =
string.match(record, LEASE_WORDS)
return {
id = ANCHOR_NAME .. '.' .. name,
device = device,
slot = slot,
address = address,
ports = ports,
spis = spis,
ikeSpis = ikeSpis,
remote = remote,
state = pending == '-' and 'active' or 'pending',
pendingUntilMs = tonumber(pending),
expiresAtMs = tonumber(expires),
fence = fence,
bindId = tonumber(bindId),
}
end
local function encodeSession(session)
return table.concat({
session.index, session.id, session.thumbprint, session.salt, session.replaces, table.concat(session.leases, ','),
}, ' ')
end
local function decodeSession(device, record)
local index, id, thumbprint, salt, replaces, named = string.match(record, SESSION_WORDS)
local leases = {}
for name in string.gmatch(named, '[^,]+') do
leases[#leases + 1] = name
end
return {
device = device,
index = index,
id = id,
thumbprint = thumbprint,
salt = salt,
replaces = replaces,
leases = leases,
}
end
local KEEP_MS = 3600000
local KEEP_COUNT = 16384
local BY_TIME = '.0'
local function forgetOldest(count)
local oldest = redis.call('ZPOPMIN', ANSWERED, count)
for at = 1, #oldest, 2 do
redis.call('HDEL', ANSWERS, oldest[at])
end
end
local function remember(request, answer)
redis.call('HSET', ANSWERS, request, answer)
redis.call('ZADD', ANSWERED, whole(now + KEEP_MS), request)
local surplus = redis.call('ZCARD', ANSWERED) - KEEP_COUNT
if surplus > 0 then
forgetOldest(surplus)
redis.call('HDEL', META, 'missed')
end
for _ = 1, 2 do
local first = redis.call('ZRANGE', ANSWERED, 0, 0, 'WITHSCORES')
if first[2] == nil or tonumber(first[2]) > now then
break
end
forgetOldest(1)
end
end
local function placeOfSlot(plan, slot)
slot = tonumber(slot)
for _, segment in ipairs(plan.segments) do
local number = slot - segment.first
if number >= 0 and number < segment.slots then
local ordinal = number % segment.addresses
for at, prefix in ipairs(segment.prefixes) do
if ordinal < prefix.addresses then
return { segment = segment, number = number, prefix = prefix, ordinal = ordinal, tweak = segment.tweak + at }
end
ordinal = ordinal - prefix.addresses
end
end
end
end
local function formerSlots(device)
local slots = {}
for slot in string.gmatch(redis.call('HGET', FORMER, 'd:' .. device) or '', '%d+') do
slots[#slots + 1] = slot
end
return slots
end
local function coolSlot(slot, device)
local coolingMs = tonumber(redis.call('HGET', META, 'coolingMs'))
redis.call('ZADD', COOLING, whole(now + coolingMs), slot)
redis.call('HSET', FORMER, 's:' .. slot, device)
local former = formerSlots(device)
former[#former + 1] = slot
redis.call('HSET', FORMER, 'd:' .. device, table.concat(former, ','))
end
local function portsIn(text)
local first, width = string.match(text, '^(%d+)/(%d+)$')
return tonumber(first), first and 2 ^ tonumber(width)
end
local function slotsOfPorts(plan, slot, first, count)
local place = placeOfSlot(plan, slot)
if not place then
return nil
end
local segment, slots = place.segment, {}
local ordinal = place.number % segment.addresses
for block = first / plan.portBlock, (first + count) / plan.portBlock - 1 do
local row = block - plan.firstPortBlock
local number = row * segment.addresses + ordinal
if row < 0 or number >= segment.slots then
return nil
end
slots[#slots + 1] = whole(segment.first + number)
end
return slots
end
local function slotsIn(plan, lease)
local first, count = portsIn(lease.ports)
local isDoubled = first and count > plan.portBlock
return isDoubled and slotsOfPorts(plan, lease.slot, first, count) or { lease.slot }
end
local function countExtraSlots(more)
if more ~= 0 then
redis.call('HINCRBY', META, 'extraSlots', more)
end
end
local function slotsOf(lease)
if (redis.call('HGET', META, 'extraSlots') or '0') == '0' then
return { lease.slot }
end
return slotsIn(cjson.decode(redis.call('HGET', META, 'plan')), lease)
end
local function coolSlots(slots, device)
for _, slot in ipairs(slots) do
coolSlot(slot, device)
end
countExtraSlots(1 - #slots)
end
local function readServer()
return string.match(redis.call('INFO', 'replication'), 'master_replid:(%x+)')
end
local server = readServer()
local function forgetReport()
redis.call(
'HDEL', META, 'reportEpoch', 'reportRelay', 'reportBoot', 'reportCounter', 'reportUntilMs',
'reportPlan', 'reportAtMs', 'reportIsTold', 'reportAs', 'restoring', 'restMs', 'restTo', 'isInDoubt', 'isRestored'
)
redis.call('UNLINK', REPORT)
end
local function beginQuarantine(ms)
redis.call('HSETNX', META, 'wholeCounter', redis.call('HGET', META, 'counter') or 0)
redis.call('HSET', META, 'server', server, 'quarantineUntilMs', whole(now + ms))
redis.call('HDEL', META, 'isRaised')
forgetReport()
end
local function quarantined()
local of = redis.call('HMGET', META, 'server', 'quarantineUntilMs', 'quarantineMs')
if of[1] and of[1] ~= server then
beginQuarantine(tonumber(of[3]))
return true
end
return of[2] ~= false
end
local function tenantOf(device)
return string.match(device, '^[^/]*')
end
local function allowanceOf(tenant)
local used, allowed, number, epoch =
string.match(redis.call('HGET', TENANTS, tenant) or '0 0 0 0', '^(%d+) (%d+) (%d+) (%d+)$')
local isCurrent = epoch == redis.call('HGET', META, 'epoch')
return {
used = tonumber(used),
allowed = isCurrent and tonumber(allowed) or 0,
number = isCurrent and number or '0',
}
end
local function saveAllowance(tenant, allowance)
local epoch = redis.call('HGET', META, 'epoch')
local words = { whole(allowance.used), whole(allowance.allowed), allowance.number, epoch }
redis.call('HSET', TENANTS, tenant, table.concat(words, ' '))
end
local function countLease(device, more)
if redis.call('HEXISTS', META, 'maxLeasesPerTenant') == 0 then
return
end
local tenant = tenantOf(device)
local allowance = allowanceOf(tenant)
allowance.used = allowance.used + more
if allowance.used > 0 then
saveAllowance(tenant, allowance)
else
redis.call('HDEL', TENANTS, tenant)
end
end
local function leaseOf(id)
local name = nameOf(id)
local record = redis.call('HGET', LEASES, name)
return record and decodeLease(name, record)
end
local function sessionOf(device)
local record = redis.call('HGET', SESSIONS, device)
return record and decodeSession(device, record)
end
local function saveSession(session)
redis.call('HSET', SESSIONS, session.device, encodeSession(session))
end
local function announce(kind, lease, session)
lease.fence = takeFence()
publish(lease.fence, table.concat({ kind, nameOf(lease.id), session.id, encodeLease(lease) }, ' '))
end
local function shown(lease, session)
return table.concat({ lease.id, redis.call('HGET', META, 'pool'), session.id, encodeLease(lease) }, ' ')
end
local function forgetSession(session)
redis.call('HDEL', SESSIONS, session.device)
redis.call('SETBIT', INDEXES, session.index, 0)
redis.call('HDEL', HINTS, session.id)
end
local function leaveSession(session, lease)
local name = nameOf(lease.id)
local left = {}
for _, other in ipairs(session.leases) do
if other ~= name then
left[#left + 1] = other
end
end
session.leases = left
if #left > 0 then
saveSession(session)
else
forgetSession(session)
end
end
local function endLease(lease, reason)
local session = sessionOf(lease.device)
announce('ended ' .. reason, lease, session)
redis.call('HDEL', LEASES, nameOf(lease.id))
redis.call('ZREM', EXPIRIES, nameOf(lease.id))
countLease(lease.device, -1)
coolSlots(slotsOf(lease), lease.device)
leaveSession(session, lease)
remember(lease.id, 'C' .. (reason == 'withdrawn' and WITHDRAWN or REQUEST_ENDED) .. (reason == 'expired' and BY_TIME or ''))
return shown(lease, session)
end
if quarantined() then
return QUARANTINED
end
local lease = leaseOf(ARGV[1])
if not lease then
return { now }
end
if lease.state ~= 'pending' then
return NOT_PENDING
end
return { now, endLease(lease, 'withdrawn') }`,
  },
} as const;

export const REFUSALS = {
  UNDECLARED: -1,
  OWNED_BY_ANOTHER: -2,
  STALE_EPOCH: -3,
  NO_OWNER: -4,
  EXHAUSTED: -5,
  BAD_BIND: -6,
  KIND_NOT_OFFERED: -7,
  LEASES_WOULD_BE_ORPHANED: -8,
  WITHDRAWN: -9,
  NOT_PENDING: -10,
  REQUEST_ENDED: -11,
  NOT_HOME: -12,
  QUOTA: -13,
  QUARANTINED: -16,
  REMOTE_FAMILY: -15,
  PLAN_MOVED: -17,
  INDEX_BEHIND: -18,
  UNTOLD: -20,
  RESTORING: -21,
  ADDRESS_INUSE: -30,
  ADDRESS_UNALLOWED: -31,
  PORTS_INUSE: -32,
  PORTS_UNALLOWED: -33,
  SPIS_INUSE: -34,
  SPIS_UNAVAILABLE: -35,
  PORTS_UNAVAILABLE: -36,
} as const;
