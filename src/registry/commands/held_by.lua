--[[
  Where to look for a device's leases.

  KEYS  the device's (include/device.lua)
  ARGV  none
  Events  none
  Returns {{lease id held ...}, {lease id intended ...}}
]]
--- @include "device"
local held, intended = {}, {}
for lease, state in leaseNotes() do
  if state == '+' then
    held[#held + 1] = lease
  elseif state == '?' then
    intended[#intended + 1] = lease
  end
end
return { held, intended }
