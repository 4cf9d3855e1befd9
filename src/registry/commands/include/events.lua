--- @include "anchor"
-- Fences and the stream. The counter rises by one with every event and never restarts, also not with a new
-- epoch: a reader that sees another step than +1 has missed something.
-- One that missed a good part of the anchor reads all of it as cheaply: a stream need not be longer. Shorter, and many grants
-- at once to an anchor with few leases outrun its owner.
local MOST_EVENTS = 512
local LEAST_EVENTS = 64

local function takeFence()
  local counter = redis.call('HINCRBY', META, 'counter', 1)
  return redis.call('HGET', META, 'epoch') .. '-' .. whole(counter)
end

-- An event is a word and what belongs to it (records.ts):
--   granted <lease> <its record> <the session's record>
--   activated | extended | ended <reason>, <lease> <session id> <its record>
--   session <device> <its record>
--   owned <relay>
--   declared
-- Redis refuses an id that does not rise. Called before the change that it announces, so a refused fence
-- changes nothing.
local function publish(fence, event)
  local length = math.max(LEAST_EVENTS, math.min(MOST_EVENTS, redis.call('HLEN', LEASES)))
  redis.call('XADD', STREAM, 'MAXLEN', '~', length, fence, 'event', event)
  redis.call('SPUBLISH', CHANNEL, fence)
end
