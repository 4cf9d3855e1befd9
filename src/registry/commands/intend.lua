--[[
  Decides on which anchor a device's request is tried, before it is tried, so that a retry of the request asks
  the same anchor the same thing: never two leases.

  KEYS  the device's (include/device.lua)
  ARGV  1 request  2 its mark (include/device.lua)  3 pool  4 anchor  5 attempt (random)  6 quota
        7 attempt that failed, or ''  8 servers that have lost nothing, as '|one|other|'
  Events  none
  Returns {intent JSON {anchor, attempt, bindId, pool, lease}, server, 1 while the attempt may begin}, or QUOTA. '' for the
          intent: this server may have lost what it was told; the anchors are to be asked first (reindex)
]]
--- @include "device"
--- @include "server"
local KEEP_MS = 86400000
local KEEP_COUNT = 256
local request, mark, pool, failed = ARGV[1], ARGV[2], ARGV[3], ARGV[7]

local function write(intent)
  local json = cjson.encode(intent)
  redis.call('HSET', INTENTS, request, json)
  redis.call('HSET', OPEN, request, whole(now) .. '|' .. pool)
  redis.call('ZADD', AGES, whole(now), request)
  return { json, server, 1 }
end

-- 1. An index that may have lost something decides nothing.
if not string.find(ARGV[8], '|' .. server .. '|', 1, true) and redis.call('HGET', NOTES, 'whole:' .. pool) ~= server then
  return { '', server, 0 }
end

-- 2. Idempotency: what is held for the request answers it, unless this is the word that it failed. It begins no more.
local count = 0
local held = redis.call('HGETALL', HELD)
for at = 1, #held, 2 do
  local lease = held[at]
  local attempt = string.sub(lease, -11)
  if string.sub(lease, -22, -12) ~= mark then
    count = count + (held[at + 1] == pool and 1 or 0)
  elseif attempt == failed then
    redis.call('HDEL', HELD, lease)
  else
    local intent = { anchor = string.sub(lease, 1, -24), attempt = attempt, bindId = 0, pool = pool, lease = lease }
    return { cjson.encode(intent), server, 0 }
  end
end

-- 3. spin: leases.intend.move  Else the intent stands, unless this is the word that its attempt failed. The anchor
--    remembers a failure for longer than an attempt may begin, so no lease of that attempt lives or will.
local stored = redis.call('HGET', INTENTS, request)
if stored then
  local intent = cjson.decode(stored)
  if intent.attempt == failed then
    intent.anchor = ARGV[4]
    intent.attempt = ARGV[5]
    intent.lease = ''
    return write(intent)
  end
  local begins = intent.lease == '' and tonumber(redis.call('ZSCORE', AGES, request) or 0) + OPEN_MS > now
  return { stored, server, begins and 1 or 0 }
end

-- 4. Quota: what it holds, and what it is being granted.
local open = redis.call('HGETALL', OPEN)
for at = 1, #open, 2 do
  local since, of = string.match(open[at + 1], '^(%d+)|(.*)$')
  if tonumber(since) + OPEN_MS < now then
    redis.call('HDEL', OPEN, open[at])
  elseif of == pool then
    count = count + 1
  end
end
if count >= tonumber(ARGV[6]) then
  return QUOTA
end

-- 5. Forget old intents, never one that is open or whose lease is held.
local surplus = redis.call('ZCARD', AGES) > KEEP_COUNT
for _, old in ipairs(redis.call('ZRANGEBYSCORE', AGES, '-inf', surplus and '+inf' or whole(now - KEEP_MS), 'LIMIT', 0, 4)) do
  local intent = cjson.decode(redis.call('HGET', INTENTS, old))
  if redis.call('HEXISTS', HELD, intent.lease) == 1 or redis.call('HEXISTS', OPEN, old) == 1 then
    redis.call('ZADD', AGES, whole(now), old)
  else
    redis.call('HDEL', INTENTS, old)
    redis.call('ZREM', AGES, old)
  end
end

-- 6. Change.  spin: leases.intend  Bind ids are unique for the device (RFC 3103 section 9.12.1).
local bindId = (redis.call('HINCRBY', NOTES, 'bindId', 1) - 1) % 4294967295 + 1
return write({ anchor = ARGV[4], attempt = ARGV[5], bindId = bindId, pool = pool, lease = '' })
