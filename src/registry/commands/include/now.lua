-- Milliseconds by the registry's own clock: a step on a host's clock moves no lease.
local function readNow()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end
local now = readNow()
