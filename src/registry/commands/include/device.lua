--- @include "codes"
--- @include "now"
-- The keys of a device, always all of them and in this order (keys.ts): an index of what anchors say, never the
-- other way round.
--   HELD     hash  lease id -> pool
--   INTENTS  hash  request -> {anchor, attempt, bindId, pool, lease}
--   AGES     zset  request by the instant of its intent
--   OPEN     hash  request -> <instant>|<pool>: intents that no lease answers yet
--   NOTES    hash  bindId counter, client, registeredUntilMs, last:<pool> -> last anchor,
--                  whole:<pool> -> the server on which all that the pool's anchors hold for the device was noted
-- A lease id ends with MARK (11 characters, of the request) and attempt (11 characters): what is held says by itself
-- which request it answers.
local HELD, INTENTS, AGES, OPEN, NOTES = unpack(KEYS)
-- An intent that nobody pursued for so long no longer counts against the quota.
local OPEN_MS = 60000

local function whole(number)
  return string.format('%.0f', number)
end
