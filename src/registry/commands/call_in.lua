--[[
  Calls in what a tenant is allowed on an anchor and does not use.

  KEYS  the anchor's (include/anchor.lua)
  ARGV  1 pool  2 tenant
  Events  none
  Returns {used, number of this word}, or QUARANTINED
]]
--- @include "allowances"
--- @include "quarantine"
-- 1. Where nobody has reported until a quarantine's end, nobody will.
if quarantined() and not (quarantineIsOver() and redis.call('HEXISTS', META, 'reportRelay') == 0) then
  return QUARANTINED
end
-- 2. Nothing of the tenant's is here. (An anchor that is not declared is written nothing.)
if redis.call('HGET', META, 'pool') ~= ARGV[1] or redis.call('HEXISTS', TENANTS, ARGV[2]) == 0 then
  return { 0, nextNumber() }
end
-- 3. Change. (Idempotent as it stands: what is called in twice is used all the same.)
local allowance = allowanceOf(ARGV[2])
if allowance.used > 0 then
  allowance.allowed = math.min(allowance.allowed, allowance.used)
  allowance.number = takeNumber()
  saveAllowance(ARGV[2], allowance)
  return { allowance.used, allowance.number }
end
redis.call('HDEL', TENANTS, ARGV[2])
return { 0, takeNumber() }
