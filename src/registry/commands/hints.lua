--[[
  Where sessions of an anchor were last proven. No truth, so it is told in quarantine too.

  KEYS  the anchor's (include/anchor.lua)
  ARGV  sessions
  Events  none
  Returns a hint for each, false where nothing is known
]]
--- @include "anchor"
return redis.call('HMGET', HINTS, unpack(ARGV))
