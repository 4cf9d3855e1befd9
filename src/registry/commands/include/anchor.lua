--- @include "codes"
--- @include "now"
-- The keys of an anchor, always all of them and in this order (keys.ts): one hash tag, so one slot.
--   META      hash   schema, plan, pool, epoch, counter, owner, boot, untilMs, standby, standbyBoot, server, quarantine…, report…, home, frontier, extraSlots, nextIndex
--   LEASES    hash   lease -> record (records.lua)
--   SESSIONS  hash   device -> the record of its session
--   INDEXES   bits   session indexes in use
--   EXPIRIES  zset   lease by the instant when a sweep may end it
--   COOLING   zset   slot by the instant when it is cool
--   FORMER    hash   s:<slot> -> its last device, d:<device> -> its former slots
--   ANSWERS   hash   request -> what it was answered
--   ANSWERED  zset   request by the instant when its answer may be forgotten
--   STREAM    stream of lease events, entry id = fence
--   HINTS     hash   session -> its last proven path
--   REPORT    hash   what an owner has, during a quarantine: lease -> as it crosses, device -> its session's record
--   TENANTS   hash   tenant -> what it holds and may hold, where the pool limits that (allowances.lua)
--   CHANNEL   sharded channel: "something happened", nothing more
--   OLDER     META of layout 1, until the anchor's relay has taken it up here; then a word, which no script of that layout
--             gets past
local META, LEASES, SESSIONS, INDEXES, EXPIRIES, COOLING, FORMER, ANSWERS, ANSWERED, STREAM, HINTS, REPORT, TENANTS, CHANNEL, OLDER =
  unpack(KEYS)

-- What the records here look like; another form gets another number.
local SCHEMA = '2'

local function whole(number)
  return string.format('%.0f', number)
end

-- Data of a version that this one does not know are not touched.
local schema = redis.call('HGET', META, 'schema')
if schema and schema ~= SCHEMA then
  error({ err = 'MOORINGSCHEMA ' .. schema })
end
