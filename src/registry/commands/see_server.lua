--[[
  For how long a server has been known to answer for some devices' indexes. A server that was promoted, or started again,
  is another one: what was written last before it may be lost.

  KEYS  1 index (INDEX_NAME in include/device.lua) -> the instant when it was first seen
  ARGV  1 index
  Events  none
  Returns milliseconds
]]
--- @include "now"
local SERVERS = unpack(KEYS)
redis.call('HSETNX', SERVERS, ARGV[1], string.format('%.0f', now))
return now - tonumber(redis.call('HGET', SERVERS, ARGV[1]))
