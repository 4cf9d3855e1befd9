--- @include "now"
--- @include "server"
-- The keys of a tenant in a pool (keys.ts): how many leases were dealt to which anchor, together no more than the limit. Always at
-- least as many as the anchor allows: raised here first and there after it, lowered there first.
--   DEALT  hash  anchor -> <dealt> <number of the anchor's word that this follows>
--                :total -> dealt in all
--                :whole -> the history (HISTORY) in which every anchor of the pool was asked
--   ASKED  zset  anchor by the instant of its last word
-- Only ever what anchors say, and forgotten when nobody was dealt anything for KEEP_MS.
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
