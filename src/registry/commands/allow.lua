--[[
  Allows a tenant's devices as many leases on an anchor as were dealt to it.

  KEYS  the anchor's (include/anchor.lua)
  ARGV  1 tenant  2 how many in all  3 number of the anchor's word that they were dealt by
  Events  none
  Returns OK, also when that word is no longer the last, or QUARANTINED
]]
--- @include "allowances"
--- @include "quarantine"
if quarantined() then
  return QUARANTINED
end
-- 1. Idempotency: this was allowed, or called in since.
local allowance = allowanceOf(ARGV[1])
if allowance.number == '0' or allowance.number ~= ARGV[3] then
  return 'OK'
end
-- 2. Change.
allowance.allowed = tonumber(ARGV[2])
allowance.number = takeNumber()
saveAllowance(ARGV[1], allowance)
return 'OK'
