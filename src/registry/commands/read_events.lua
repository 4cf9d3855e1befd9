--[[
  Events after a fence. The reader checks that counters follow each other; here is what it checks them against.

  KEYS  the anchor's (include/anchor.lua)
  ARGV  1 fence to read after  2 limit
  Events  none
  Returns {now, counter, pool, {{fence, event} ...}}, or UNDECLARED, QUARANTINED
]]
--- @include "quarantine"
if quarantined() then
  return QUARANTINED
end
local counter = redis.call('HGET', META, 'counter')
if not counter then
  return UNDECLARED
end
local entries = {}
for _, entry in ipairs(redis.call('XRANGE', STREAM, '(' .. ARGV[1], '+', 'COUNT', ARGV[2])) do
  entries[#entries + 1] = { entry[1], entry[2][2] }
end
return { now, counter, redis.call('HGET', META, 'pool') or '', entries }
