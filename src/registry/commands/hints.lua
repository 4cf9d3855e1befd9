--[[
  Where sessions of an anchor were last proven, some at a time. No truth, so it is told in quarantine too.

  KEYS  the anchor's (include/anchor.lua)
  ARGV  1 cursor, 0 to begin with  2 how many, about
  Events  none
  Returns {cursor to go on with, {session, hint ...}}
]]
--- @include "anchor"
return redis.call('HSCAN', HINTS, ARGV[1], 'COUNT', ARGV[2])
