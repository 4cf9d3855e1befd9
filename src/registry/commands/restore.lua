#!lua flags=allow-oom
--[[
  Brings some of what an owner has said back into an anchor's data; anybody may, until it is done.

  KEYS  the anchor's (include/anchor.lua)
  ARGV  1 how many leases or slots, about
  Events  ended, activated, extended
  Returns 1 when there is more to do, else 0
]]
--- @include "restoring"
if not quarantined() or redis.call('HEXISTS', META, 'restoring') == 0 then
  return 0
end
return restoreSome(tonumber(ARGV[1])) and 1 or 0
