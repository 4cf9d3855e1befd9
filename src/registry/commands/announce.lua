#!lua flags=allow-oom
--[[
  A relay says that it is there, and where.

  KEYS  1 the relay's
  ARGV  1 what it says, JSON  2 for how long, milliseconds
  Events  none
  Returns OK
]]
local RELAY = unpack(KEYS)
return redis.call('SET', RELAY, ARGV[1], 'PX', ARGV[2])
