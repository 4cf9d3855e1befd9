--- @include "events"
--- @include "quarantine"
-- One owner under one epoch. The epoch rises at every claim by a new incarnation (relay id and boot).
local function owner()
  local of = redis.call('HMGET', META, 'owner', 'boot', 'epoch', 'untilMs', 'home', 'standby', 'standbyBoot')
  return {
    relay = of[1],
    boot = of[2],
    epoch = of[3],
    untilMs = tonumber(of[4] or 0),
    home = of[5],
    standby = of[6],
    standbyBoot = of[7],
  }
end

local function holdUntil(untilMs)
  redis.call('HSET', META, 'untilMs', whole(untilMs))
end

-- Makes relay and boot the owner under the next epoch and says so. Returns the epoch.
local function own(relay, boot, ttlMs)
  local epoch = redis.call('HINCRBY', META, 'epoch', 1)
  local fence = takeFence()
  publish(fence, 'owned ' .. relay)
  redis.call('HSET', META, 'owner', relay, 'boot', boot)
  -- Whoever was to follow the former owner follows this one only when it says so.
  redis.call('HDEL', META, 'standby', 'standbyBoot')
  holdUntil(now + ttlMs)
  return whole(epoch)
end
