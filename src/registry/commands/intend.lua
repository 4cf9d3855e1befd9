--[[
  Decides on which anchor a device's request is tried, before it is tried, so that a retry of the request asks
  the same anchor the same thing: never two leases.

  KEYS  the device's (include/device.lua)
  ARGV  1 mark of the request (include/device.lua)  2 pool  3 anchor, or '' while the pool has none
        4 '1' when the anchor that the device had last in the pool goes before that  5 attempt (random)  6 quota
        7 attempt that failed, or ''  8 indexes that have lost nothing, as '|one|other|'
  Events  none
  Returns {lease id that the attempt may become, bind id, this index, 1 while the attempt may begin}, or QUOTA, or UNDECLARED
          without any anchor. '' for the lease: this index may have lost what it was told; the anchors are to be
          asked first (reindex)
]]
--- @include "device"
local KEEP_MS = 86400000
-- As long as an anchor remembers it (requests.lua).
local KEEP_ENDED_MS = 3600000
local KEEP_COUNT = 128
-- An intent that nobody pursued for so long begins nothing any more, and does not count against the quota.
local OPEN_MS = 60000
local WEIGHT = { ['-'] = 1, ['?'] = 2, ['+'] = 3 }
local mark, pool, failed = ARGV[1], ARGV[2], ARGV[7]

-- 1. An index that may have lost something decides nothing.
local bound, former, isWholeIn =
  unpack(redis.call('HMGET', INDEX, 'bindId', 'last:' .. pool, 'whole:' .. pool))
local isTrusted = string.find(ARGV[8], '|' .. INDEX_NAME .. '|', 1, true)
if not isTrusted and isWholeIn ~= INDEX_NAME then
  return { '', 0, INDEX_NAME, 0 }
end
if isTrusted and isWholeIn then
  redis.call('HDEL', INDEX, 'whole:' .. pool)
end

-- 2. What is noted of this request, and for how many others the device holds or is being granted something. Old notes
--    are forgotten, never of what is held or open.
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

-- 3. Idempotency: that answers it, a lease held before all. spin: leases.intend.move  Unless this is the word that its
--    attempt failed: the anchor remembers a failure for longer than an attempt may begin, so no lease of it lives or will.
if answer then
  return answer
end

-- 4. Where, and the quota: one that moves has its place.
local anchor = ARGV[4] == '1' and former or ARGV[3]
if anchor == '' then
  return UNDECLARED
end
if not isMoved and count >= tonumber(ARGV[6]) then
  return QUOTA
end

-- 5. Change.  spin: leases.intend  Bind ids are unique for the device (RFC 3103 section 9.12.1).
local bindId = whole(tonumber(bound or 0) % 4294967295 + 1)
local lease = anchor .. '.' .. mark .. ARGV[5]
redis.call('HSET', INDEX, lease, table.concat({ '?' .. pool, whole(now), bindId }, ' '), 'bindId', bindId)
return { lease, tonumber(bindId), INDEX_NAME, 1 }
