#!lua flags=allow-oom
--[[
  Some of what an owner has: more than one script should take is told in pieces, after `report` and before what that says
  comes about.

  KEYS  the anchor's (include/anchor.lua)
  ARGV  1 relay  2 boot  3 epoch  4 counter, all as reported  5 '1' when that was all
        then a lease's name and the lease as it crosses, or a device and its session's record; and so on
  Events  none
  Returns OK, or QUARANTINED: report again
]]
--- @include "quarantine"
-- 1. Nobody waits for it any more.
if not quarantined() or redis.call('HEXISTS', META, 'restoring') == 1 then
  return 'OK'
end
-- 2. Of the report that counts. (Idempotent as it stands: the same again changes nothing.)
local of = redis.call('HMGET', META, 'reportRelay', 'reportBoot', 'reportEpoch', 'reportCounter')
for at = 1, 4 do
  if of[at] ~= ARGV[at] then
    return QUARANTINED
  end
end
-- 3. Change.
if #ARGV > 5 then
  redis.call('HSET', REPORT, unpack(ARGV, 6))
end
if ARGV[5] == '1' then
  redis.call('HSET', META, 'reportIsTold', '1')
end
return 'OK'
