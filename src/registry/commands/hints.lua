--[[
  Where the sessions of an anchor were last proven. No truth, so it is told in quarantine too.

  KEYS  the anchor's (include/anchor.lua)
  ARGV  none
  Events  none
  Returns {now, {session, hint ...}}
]]
--- @include "anchor"
return { now, redis.call('HGETALL', HINTS) }
