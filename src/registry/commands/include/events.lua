--- @include "anchor"
-- Fences and the stream. The counter rises by one with every event and never restarts, also not with a new
-- epoch: a reader that sees another step than +1 has missed something.
-- A reader that finds less than it missed takes a snapshot, so a stream need not be long.
local STREAM_LENGTH = 512

local function takeFence()
  local counter = redis.call('HINCRBY', META, 'counter', 1)
  return redis.call('HGET', META, 'epoch') .. '-' .. whole(counter)
end

-- `members` is JSON from a comma on; records in it are as they are stored, the reader makes a LeaseEvent of them.
-- Redis refuses an id that does not rise. Called before the change that it announces, so a refused fence
-- changes nothing.
local function publish(fence, kind, members)
  local event = '{"type":"' .. kind .. '","fence":"' .. fence .. '"' .. members .. '}'
  redis.call('XADD', STREAM, 'MAXLEN', '~', STREAM_LENGTH, fence, 'event', event)
  redis.call('SPUBLISH', CHANNEL, fence)
end
