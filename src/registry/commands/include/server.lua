-- Which history of writes this server continues. It changes whenever a primary starts and whenever a replica is
-- promoted, and then what was written last may be lost. (It also changes when a first replica joins: a quarantine
-- for nothing, but one that loses nothing.)
local function readServer()
  return string.match(redis.call('INFO', 'replication'), 'master_replid:(%x+)')
end
local server = readServer()
