--- @include "requests"
-- What a quarantine ended without: of the fences under an epoch that it put an end to, those above what was known then. META says
-- so for each of the last quarantines: missed, '<epoch> <counter> <untilMs>;'. A former owner may still bring it back, for as
-- long as it is remembered what has ended since (requests.lua).
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

-- The quarantine that ended without what happened under this fence, or nil.
local function missing(all, epoch, counter)
  for _, one in ipairs(all) do
    if epoch < one.epoch then
      return counter > one.counter and one or nil
    end
  end
end
