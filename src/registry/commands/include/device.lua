--- @include "codes"
--- @include "now"
--- @include "server"
-- The key of a device (keys.ts): an index of what anchors say, never the other way round. A hash of few and short fields,
-- which Redis keeps in one piece: a field or value above 64 octets would cost several times the memory.
--   <lease id>     ?<pool> <instant> <bind id>: intended then; not known yet what its anchor answers
--                  +<pool>: held
--                  -<pool> <instant>: ended, as noted then
--   bindId         the last one drawn
--   client         <client id> <instant until which it is registered>
--   last:<pool>    the anchor whose lease ended last
--   whole:<pool>   the index (INDEX_NAME) in which all that the pool's anchors hold for the device was noted
-- A lease id is <anchor>.<mark of its request><attempt>, the last two of 11 characters: so it says by itself which
-- request it answers. Nothing else here has a dot.
local INDEX = unpack(KEYS)
-- The history of writes that this index continues; the layout is a part of it, for another layout's index knows of nothing
-- that is intended here (keys.ts).
local INDEX_NAME = server .. '/2'

local function whole(number)
  return string.format('%.0f', number)
end

-- State, pool, instant and bind id of what is noted of a lease.
local function readNote(value)
  return string.match(value, '^([-+?])(%S+) ?(%d*) ?(%d*)$')
end

-- The notes of leases among all fields, one after the other: lease id, then as above.
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
