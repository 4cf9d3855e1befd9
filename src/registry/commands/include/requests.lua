--- @include "anchor"
-- What a request was answered, kept for KEEP_MS and at most KEEP_COUNT of it, so a retry finds it and memory stays
-- bounded. A request for a lease is named by the lease's id, and answered by the lease while there is one.
local KEEP_MS = 3600000
local KEEP_COUNT = 16384
-- Behind the code of a lease that ended by itself, not by anybody's word. It is the same number.
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
    -- What has ended is not remembered for long enough to bring anything back beside it (missed.lua).
    redis.call('HDEL', META, 'missed')
  end
  -- Two a call: faster than they come in.
  for _ = 1, 2 do
    local first = redis.call('ZRANGE', ANSWERED, 0, 0, 'WITHSCORES')
    if first[2] == nil or tonumber(first[2]) > now then
      break
    end
    forgetOldest(1)
  end
end

-- Remembers a refusal of `request`, so that a copy of it that is still under way cannot succeed later.
local function refuse(request, code)
  remember(request, 'C' .. code)
  return code
end
