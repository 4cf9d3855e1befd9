--[[
  Decides on which anchor a device's request is tried, before it is tried, so that a retry of the request asks
  the same anchor the same thing: never two leases.

  KEYS  the device's (include/device.lua)
  ARGV  1 request  2 pool  3 anchor  4 attempt (random)  5 quota  6 attempt that failed, or ''
  Events  none
  Returns intent JSON {anchor, attempt, bindId, pool, lease}, or QUOTA
]]
--- @include "device"
local KEEP_MS = 86400000
local KEEP_COUNT = 256
local request, pool = ARGV[1], ARGV[2]

local function write(intent)
  local json = cjson.encode(intent)
  redis.call('HSET', INTENTS, request, json)
  redis.call('HSET', OPEN, request, whole(now) .. '|' .. pool)
  redis.call('ZADD', AGES, whole(now), request)
  return json
end

-- 1. spin: leases.intend.move  Idempotency: the intent stands, unless this is the word that its attempt failed. The anchor remembers a
--    failure for ever, so no lease of that attempt lives or will.
local stored = redis.call('HGET', INTENTS, request)
if stored then
  local intent = cjson.decode(stored)
  if intent.attempt == ARGV[6] then
    intent.anchor = ARGV[3]
    intent.attempt = ARGV[4]
    intent.lease = ''
    return write(intent)
  end
  return stored
end

-- 2. Quota: what it holds, and what it is being granted.
local count = 0
for _, of in ipairs(redis.call('HVALS', HELD)) do
  if of == pool then
    count = count + 1
  end
end
local open = redis.call('HGETALL', OPEN)
for at = 1, #open, 2 do
  local since, of = string.match(open[at + 1], '^(%d+)|(.*)$')
  if tonumber(since) + OPEN_MS < now then
    redis.call('HDEL', OPEN, open[at])
  elseif of == pool then
    count = count + 1
  end
end
if count >= tonumber(ARGV[5]) then
  return QUOTA
end

-- 3. Forget old intents, never one that is open or whose lease is held.
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

-- 4. Change.  spin: leases.intend  Bind ids are unique for the device (RFC 3103 section 9.12.1).
local bindId = (redis.call('HINCRBY', NOTES, 'bindId', 1) - 1) % 4294967295 + 1
return write({ anchor = ARGV[3], attempt = ARGV[4], bindId = bindId, pool = pool, lease = '' })
