--- @include "codes"
--- @include "now"
-- The keys of an anchor, always all of them and in this order (keys.ts): one hash tag, so one slot.
--   META      hash   plan, pool, epoch, counter, owner, boot, untilMs, standby, standbyBoot, server, quarantine…, report…, home, frontier, nextIndex
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
--   CHANNEL   sharded channel: "something happened", nothing more
local META, LEASES, SESSIONS, INDEXES, EXPIRIES, COOLING, FORMER, ANSWERS, ANSWERED, STREAM, HINTS, REPORT, CHANNEL =
  unpack(KEYS)

local function whole(number)
  return string.format('%.0f', number)
end
