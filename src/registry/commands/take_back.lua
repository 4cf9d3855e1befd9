--[[
  Notes what anchors have left of what was dealt to them, once they have called the rest in.

  KEYS  the tenant's in the pool (include/tenant.lua)
  ARGV  1 history, as `deal` said it  2 '1' when with these all anchors of the pool were asked
        then anchor, used there, number of that word; and so on
  Events  none
  Returns OK, or INDEX_BEHIND: another server answers by now
]]
--- @include "codes"
--- @include "tenant"
if string.match(ARGV[1], '^[^/]*') ~= server then
  return INDEX_BEHIND
end
for at = 3, #ARGV, 3 do
  local anchor, number = ARGV[at], tonumber(ARGV[at + 2])
  -- Idempotency: an older word, or the same, changes nothing.
  if number > select(2, dealtTo(anchor)) then
    note(anchor, tonumber(ARGV[at + 1]), number)
  end
end
if ARGV[2] == '1' then
  redis.call('HSET', DEALT, ':whole', ARGV[1])
end
keep()
return 'OK'
