--[[
  Where to look for a device's leases: its index and the anchors of intents that no lease answers yet.

  KEYS  the device's (include/device.lua)
  ARGV  none
  Events  none
  Returns {{lease id ...}, {anchor ...}}
]]
--- @include "device"
local anchors = {}
for _, request in ipairs(redis.call('HKEYS', OPEN)) do
  local stored = redis.call('HGET', INTENTS, request)
  if stored then
    anchors[#anchors + 1] = cjson.decode(stored).anchor
  end
end
return { redis.call('HKEYS', HELD), anchors }
