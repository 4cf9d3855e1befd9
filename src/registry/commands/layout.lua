--[[
  What the slots of an anchor stand for.

  KEYS  the anchor's (include/anchor.lua)
  ARGV  none
  Events  none
  Returns {now, plan as it is stored, or ''}
]]
--- @include "anchor"
return { now, redis.call('HGET', META, 'plan') or '' }
